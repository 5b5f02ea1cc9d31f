"""The data of the notebooks: your copy, or one of invented customers that the sandbox is good for.

Run as a script it makes the invented one: `python notebooks/copies.py FOLDER COPIES`.
"""

import atexit
import os
import random
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parent.parent
"""The repository: where the pipelines are run, with `.dlt/secrets.toml`, the copy and the results."""

NAME = "paystack_customers.duckdb"
STATE = "paystack_sandbox.sqlite"
UNTIL = datetime(2026, 11, 20, tzinfo=UTC)  # the same customers at each refresh, if the clock is past it
APART = timedelta(days=7)

# Two entries of one person each: how the second one is typed.
SPELLINGS = ("0{rest}", "+{dial} {rest}", "00{dial}{rest}", "+{dial}(0){rest}")


def find_copy() -> Path:
    """The DuckDB file: of `PAYSTACK_COPY`, or the one in this folder or above, or else an invented one.

    `PAYSTACK_COPY=invented` makes an invented one though there may be another.
    """
    named = os.environ.get("PAYSTACK_COPY", "")
    places = [Path(named)] if named else [Path(NAME), Path("..", NAME)]
    found = [place for place in places if place.exists()]
    if named != "invented" and (named or found):
        return (found or places)[0]
    return demo_copy(copies=5) / NAME


def demo_copy(copies: int = 1) -> Path:
    """A folder with an invented copy, and the state of the sandbox it is of. It is gone when Python ends.

    With more `copies` than one: brought up to date weekly, while the customers changed.
    """
    folder = Path(tempfile.mkdtemp(prefix="paystack-notebook-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = subprocess.run(  # a process of its own: its settings and memory stay out of the notebook
        [sys.executable, __file__, folder, str(copies)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise RuntimeError(f"the copy could not be made: {made.stderr.strip()[-2000:]}")
    return folder


def make(folder: Path, copies: int) -> None:
    """Invent customers, copy them, change some, copy again, week after week."""
    os.chdir(folder)
    os.environ |= {"DLT_DATA_DIR": str(folder / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"}
    from paystack_source import PaystackClient
    from paystack_source.sandbox import Sandbox
    from paystack_source.warehouse.sync import copy_customers, open_pipeline

    customers = int(os.environ.get("PAYSTACK_SANDBOX_CUSTOMERS", "5000"))
    chance = random.Random("notebooks")  # noqa: S311  # the same at each refresh
    today = min(UNTIL, datetime.now(UTC)) - (copies - 1) * APART
    runs = []
    clock = lambda: today.timestamp()  # noqa: E731, PLW0108  # today moves on
    with Sandbox(customers, state=STATE, until=today, limit=0, clock=clock) as sandbox:
        _enter_some_twice(sandbox, today, chance)
        codes = [customer["customer_code"] for customer in sandbox.customers_truth()]
        for week in range(copies):
            if week:
                for _ in range(chance.randrange(10, 50)):
                    sandbox.add_customers(1, created_at=today + chance.random() * APART)
                today += APART
                for code in chance.sample(codes, len(codes) // 100):
                    sandbox.edit_customer(
                        code, risk_action=chance.choice(("deny", "deny", "allow", "default"))
                    )
            runs.append((datetime.now(UTC), today))
            with PaystackClient(sandbox.secret_key, base_url=sandbox.url, read_only=True) as client:
                copy_customers(open_pipeline("duckdb", "paystack"), client, history=copies > 1)
    if copies > 1:
        _spread(runs)


def _spread(runs: list[tuple[datetime, datetime]]) -> None:
    """The copies took seconds: give them the weeks that they stand for. `runs`: when each began, and in whose stead."""
    columns = {
        "customers": ("_last_seen_at",),
        "customers_history": ("_last_seen_at", "_valid_from", "_valid_to"),
        "ledger": ("verified_at", "window_to", "asked_to"),
    }
    with duckdb.connect(NAME) as db:
        db.execute("SET TimeZone = 'UTC'; create temp table runs (began timestamptz, meant timestamptz)")
        db.executemany("insert into runs values (?, ?)", runs)
        for table, names in columns.items():
            for name in names:
                db.execute(
                    f"update paystack.{table} set {name} = coalesce((select {name} + (meant - began) from runs"
                    f" where began <= {name} order by began desc limit 1), {name})"
                )


def _enter_some_twice(sandbox, day: datetime, chance: random.Random) -> None:
    """Suspected duplicates: one phone in two spellings, one address in two; some of them allowed once, denied once."""
    people = [
        person for person in sandbox.customers_truth() if person["first_name"] and "." in person["email"]
    ]
    for number, person in enumerate(chance.sample(people, min(len(people), 24))):
        again = {name: person[name] for name in ("first_name", "last_name")}
        mailbox, _, domain = person["email"].partition("@")
        rest = f"80{chance.randrange(10**8):08}"
        if number % 2:
            sandbox.edit_customer(person["customer_code"], phone=f"+234{rest}")
            again["phone"] = chance.choice(SPELLINGS).format(dial=234, rest=rest)
        else:
            slips = [f"{mailbox}+2@{domain}", f"{mailbox.replace('.', '')}@{domain}"]
            if domain.count(".") > 1:  # a slip in what is not the name of somebody else
                slips.append(f"{mailbox}@{domain[0]}{domain[2:]}")
            again["email"] = chance.choice(slips)
        if number % 5 == 0:
            sandbox.edit_customer(person["customer_code"], risk_action="deny")
            again["risk_action"] = "allow"
        sandbox.add_customers(1, created_at=day - timedelta(days=chance.randrange(1, 300)), **again)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
