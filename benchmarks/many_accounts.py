"""Many accounts the way an orchestrator runs them: a process for each task, some at a time, on sandboxes.

    python benchmarks/many_accounts.py --accounts 20 --customers 2000 --slots 2

Prints one JSON object for each round: the first copy, a run with nothing new, and a run with new customers. CPU and
memory are those of the tasks as the system counts them, without the sandboxes. For docs/scale.md.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paystack_source.sandbox import Sandbox  # noqa: E402

TASK = "import json, sys, copy_account as one; print(json.dumps(one.copy_account(sys.argv[1], quota=None)))"


def task(account, folder):
    """One task: its facts, CPU seconds and most memory."""
    with (folder / account).open("w+") as out:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", TASK, account],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)],
        )
        _, status, used = os.wait4(pid, 0)
        out.seek(0)
        facts = json.loads(out.read().splitlines()[-1]) if status == 0 else {"proven": False}
    return facts | {"cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}


def one_round(what, names, slots, folder):
    began = time.monotonic()
    with ThreadPoolExecutor(slots) as pool:
        done = list(pool.map(lambda name: task(name, folder), names))
    return {
        "round": what,
        "accounts": len(names),
        "proven": sum(each["proven"] for each in done),
        "customers": sum(each.get("warehouse_total") or 0 for each in done),
        "requests": sum(each.get("requests") or 0 for each in done),
        "cpu_seconds_each": round(statistics.median(each["cpu"] for each in done), 2),
        "mb_each": round(max(each["mb"] for each in done)),
        "seconds": round(time.monotonic() - began, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--slots", type=int, default=2)
    args = parser.parse_args()
    names = [f"a{number}" for number in range(args.accounts)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {
            "PYTHONPATH": f"{ROOT / 'examples'}{os.pathsep}{ROOT}",
            "DLT_DATA_DIR": str(folder / "dlt"),
            "PAYSTACK_DESTINATION": "filesystem",
            "DESTINATION__FILESYSTEM__BUCKET_URL": (folder / "lake").as_uri(),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        boxes = {}
        for seed, name in enumerate(names):
            box = boxes[name] = stack.enter_context(Sandbox(args.customers, seed=seed, limit=600))
            os.environ[f"SOURCES__PAYSTACK__ACCOUNTS__{name.upper()}__SECRET_KEY"] = box.secret_key
            os.environ[f"SOURCES__PAYSTACK__ACCOUNTS__{name.upper()}__BASE_URL"] = box.url
        for what in ("first copy", "nothing new", "3 new"):
            if what == "3 new":
                for box in boxes.values():
                    box.add_customers(3)
            print(json.dumps(one_round(what, names, args.slots, folder)), flush=True)


if __name__ == "__main__":
    main()
