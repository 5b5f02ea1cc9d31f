"""The recipes of docs/howto/schedule.md: what they run, and that they say when and what failed."""

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from datetime import datetime

import duckdb
import pytest

from tests.docs.markdown import ROOT, blocks
from tests.processes import python as interpreter

PAGE = ROOT / "docs" / "howto" / "schedule.md"
SCRIPTS = dict(
    re.search(r"cat > (\S+) <<'EOF'\n(.*?\n)EOF", block.text, re.DOTALL).groups()
    for block in blocks(PAGE)
    if "cat > " in block.text
)
UNITS = {
    re.match(r"# .*/(\S+)\n", block.text)[1]: block.text for block in blocks(PAGE) if block.language == "ini"
}


@pytest.fixture
def listener():
    """A server that keeps what is sent to it: the path and the object."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


@pytest.fixture
def folder(tmp_path):
    """`/srv/paystack-source`, with the scripts of the page."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{interpreter()}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(folder, command, **environment):
    kept = {name: value for name, value in os.environ.items() if "PAYSTACK" not in name}
    given = {"DLT_DATA_DIR": str(folder / "dlt"), "PAYSTACK_SANDBOX_CUSTOMERS": "20", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=kept | given | environment,
        check=False,
        capture_output=True,
        text=True,
    )


def run(folder, command, **environment):
    return start(folder, command, **environment).returncode


def test_the_question_for_freshness_moves_with_each_proven_run_and_with_no_other(folder):
    """Nothing is new after the first run: `customers` stands still."""
    (query,) = (block.text for block in blocks(PAGE) if "max(verified_at)" in block.text)

    def last_run():
        done = start(folder, f'.venv/bin/python pipelines/query.py "{query.strip()}" --sandbox --csv')
        return done.stdout.splitlines()[-1]

    copy = ".venv/bin/python pipelines/customers.py --sandbox --refresh-budget 0 --quiet"
    assert run(folder, copy) == 0
    first = last_run()
    assert run(folder, copy) == 0
    second = last_run()
    assert datetime.fromisoformat(second) > datetime.fromisoformat(first)
    with duckdb.connect(str(folder / "paystack_sandbox.duckdb")) as file:
        file.execute("update paystack.ledger set proven = false where verified_at = ?", [second])
    assert last_run() == first


def test_the_crontab_runs_and_each_run_is_reported(folder, listener):
    url, got = listener
    lines = [
        line.split(maxsplit=5)[5].replace("/srv/paystack-source", str(folder))
        for block in blocks(PAGE)
        for line in block.text.splitlines()
        if re.match(r"[*\d]\S* [*\d]", line)
    ]
    assert len(lines) == 2
    told = {"WEBHOOK_URL": f"{url}/hook", "HEALTHCHECK_URL": f"{url}/ping"}
    assert run(folder, f"{lines[0]} --sandbox", **told) == 0
    assert [path for path, _ in got] == ["/ping"]
    assert got[0][1]["status"] == "complete"

    got.clear()
    assert run(folder, lines[1], **told) == 2  # no key
    assert [path for path, _ in got] == ["/hook", "/ping/fail"]
    said = got[0][1]
    assert (said["error"], said["exit_code"], said["dataset"]) == ("ConfigError", 2, "paystack")
    assert datetime.fromisoformat(said["started_at"])
    assert "key" in said["message"]
    assert [json.loads(line)["status"] for line in (folder / "runs.jsonl").read_text().splitlines()] == [
        "complete",
        "error",
    ]
    assert all(json.loads(line)["time"] for line in (folder / "runs.log").read_text().splitlines())


@pytest.mark.parametrize(("ends", "paths"), [("1", ["/ping/log"]), ("9", ["/hook", "/ping/fail"])])
def test_a_command_that_says_nothing_is_reported_as_well(folder, listener, ends, paths):
    url, got = listener
    (folder / "dies").write_text(f"#!/bin/sh\nexit {ends}\n")
    (folder / "dies").chmod(0o755)
    told = {"WEBHOOK_URL": f"{url}/hook", "HEALTHCHECK_URL": f"{url}/ping"}
    assert run(folder, "./watched.sh ./dies", **told) == int(ends)
    assert [path for path, _ in got] == paths
    assert got[0][1]["exit_code"] == int(ends)
    assert datetime.fromisoformat(got[0][1]["ended_at"])


def test_the_form_for_a_chat_is_one(folder):
    (line,) = (block.text for block in blocks(PAGE) if block.text.startswith("object=$("))
    for about, wanted in (
        (
            {"status": "error", "account_name": "gh", "message": "Invalid key"},
            "paystack-source gh: Invalid key",
        ),
        (
            {"status": "incomplete", "unproven": ["w"]},
            "paystack-source : {'status': 'incomplete', 'unproven': ['w']}",
        ),
    ):
        said = subprocess.run(
            ["sh", "-c", f'{line}\nprintf "%s" "$object"'], env={**os.environ, "object": json.dumps(about)},
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert json.loads(said)["text"] == wanted


def test_the_alert_says_when_and_which_unit_failed(folder, listener):
    url, got = listener
    (folder / "runs.jsonl").write_text('{"status": "error", "message": "Paystack refused the key."}\n')
    systemd = {"MONITOR_SERVICE_RESULT": "exit-code", "MONITOR_EXIT_STATUS": "4"}
    assert (
        run(folder, "./alert.sh paystack-customers.service", WEBHOOK_URL=url, RUNS="runs.jsonl", **systemd)
        == 0
    )
    ((_, said),) = got
    assert datetime.fromisoformat(said.pop("failed_at"))
    assert said == {
        "unit": "paystack-customers.service",
        "result": "exit-code",
        "exit_status": "4",
        "last_object": {"status": "error", "message": "Paystack refused the key."},
    }


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_systemd_understands_the_units(folder):
    assert set(UNITS) == {"paystack-customers.service", "paystack-alert@.service", "paystack-customers.timer"}
    for name, text in UNITS.items():
        (folder / name).write_text(text.replace("/srv/paystack-source", str(folder)))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(folder / name for name in UNITS)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    ours = [line for line in said.stderr.splitlines() if "paystack" in line]
    assert not ours
    assert said.returncode == 0, said.stderr
