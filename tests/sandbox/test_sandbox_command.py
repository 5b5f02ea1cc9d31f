"""`python -m paystack_source.sandbox`."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess

import pytest
from click.testing import CliRunner

from paystack_source.sandbox import Sandbox
from paystack_source.sandbox.__main__ import EXAMPLES, main
from paystack_source.sandbox.config import SandboxConfig, parse_switch
from paystack_source.sandbox.faults import Fault
from tests.events import PATIENCE
from tests.processes import python
from tests.sandbox.caller import Caller

COMMAND = [python(), "-m", "paystack_source.sandbox"]


class Elsewhere:
    """A sandbox in another process, as `Caller` wants one."""

    def __init__(self, line):
        self.url = line["url"]
        self.secret_key = line["secret_key"]


def test_it_serves_until_interrupted_and_keeps_its_state(tmp_path):
    state = tmp_path / "s.sqlite"
    arguments = ["--customers", "40", "--port", "0", "--state", str(state), "--set", "per_page_as_string=on"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = json.loads(process.stdout.readline())
        got = Caller(Elsewhere(line)).list(perPage=10)
        assert (got.meta["total"], got.meta["perPage"], line["customers"]) == (40, "10", 40)
    finally:
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out == ""
    assert f"SOURCES__PAYSTACK__BASE_URL={line['url']}" in told
    assert "quota 100 requests per 60 s" in told
    assert "1 requests answered" in told
    with Sandbox(state=state) as again:
        assert len(again) == 40


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--faults", "htm=1"], "no fault is called 'htm'"),
        (["--set", "to_bound=maybe"], "to_bound must be one of exclusive, inclusive, ignored"),
        (["--set", "nothing=1"], "not a switch"),
        (["--window", "0"], "window_seconds must be more than 0"),
        (["--until", "yesterday"], "yesterday"),
        (["--customers", "-1"], "-1"),
    ],
)
def test_bad_usage_is_told_in_one_line(arguments, told):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_a_foreign_state_file_is_bad_usage(tmp_path):
    (tmp_path / "notes.txt").write_text("no database at all " * 100)
    result = CliRunner().invoke(main, ["--state", str(tmp_path / "notes.txt"), "--port", "0"])
    assert (result.exit_code, "not the state" in result.stderr) == (2, True)


def test_a_taken_port_is_one_clear_line():
    with Sandbox(1) as sandbox:
        result = CliRunner().invoke(main, ["--port", sandbox.url.rpartition(":")[2]])
    assert result.exit_code == 1
    assert "cannot listen on port" in result.stderr
    assert "--port 0 takes a free one" in result.stderr


def test_every_example_of_the_help_parses():
    lines = [line.strip() for line in EXAMPLES.splitlines() if "paystack-source sandbox" in line]
    assert len(lines) >= 4
    for line in lines:
        main.make_context("sandbox", shlex.split(line)[2:])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("to_bound=inclusive", "inclusive"),
        ("bogus_cursor=400", 400),
        ("no_next_key=on", True),
        ("no_next_key=0", False),
        ("short_pages=0.25", 0.25),
        ("limit=none", None),
        ("limit=7", 7),
        ("secret_keys=a,b", ("a", "b")),
        ("faults=html=0.5", (Fault("html", rate=0.5),)),
    ],
)
def test_switches_as_text(text, value):
    name, found = parse_switch(text)
    assert (found, type(found)) == (value, type(value))
    assert getattr(SandboxConfig(**{name: found}), name) == value


@pytest.mark.parametrize("text", ["clock=1", "no_next_key=maybe", "to_bound", "limit=x", "short_pages=x"])
def test_switches_as_text_that_are_wrong(text):
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        parse_switch(text)
