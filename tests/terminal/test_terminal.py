"""Streams, exit codes and the last line: what scripts and people rely on."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading

import click
import duckdb
import pytest

from paystack_source.cli.terminal import Terminal, clean, options, run
from paystack_source.errors import ExitCode, UsageError
from tests.events import PATIENCE
from tests.processes import python


@click.command()
@click.option("--fail", type=click.Choice(["unknown", "usage", "interrupt", "kill"]))
@options
def job(terminal, fail):
    if fail == "unknown":
        raise ValueError("row of amina.bello@example.com")
    if fail == "usage":
        raise UsageError("No rows.", "Give a file with rows.")
    if fail == "interrupt":
        raise KeyboardInterrupt
    if fail == "kill":
        os.kill(os.getpid(), signal.SIGTERM)
    with terminal.progress("Reading customers", total=3, unit="customers") as progress:
        progress.advance(3)
    terminal.finish(
        "Copied",
        [("rows", "3"), ("where", "copy.duckdb")],
        {"status": "complete", "rows_seen": 3},
        ["ls copy.duckdb"],
    )
    return ExitCode.OK


def last_line(text):
    return json.loads(text.splitlines()[-1])


def test_without_json_the_summary_is_data_and_the_rest_is_talk(capsys):
    assert run(job, []) == 0
    out, err = capsys.readouterr()
    assert "Copied" in out
    assert "  ls copy.duckdb" in out.splitlines()
    assert "3 of 3 customers" in err
    assert "Reading" not in out


def test_with_json_stdout_is_one_object_and_nothing_else(capsys):
    assert run(job, ["--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"status": "complete", "rows_seen": 3}
    assert "Copied" in err


def test_quiet_drops_the_talk_but_not_the_result(capsys):
    assert run(job, ["--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "Copied" in out
    assert err == ""


@pytest.mark.parametrize(
    ("args", "code", "name"),
    [
        (["--fail", "unknown"], ExitCode.UNEXPECTED, "ValueError"),
        (["--fail", "usage"], ExitCode.USAGE, "UsageError"),
        (["--nonsense"], ExitCode.USAGE, "UsageError"),
        (["--fail", "maybe"], ExitCode.USAGE, "UsageError"),
        (["--fail", "interrupt"], ExitCode.INTERRUPTED, "Interrupted"),
        (["--fail", "kill"], ExitCode.INTERRUPTED, "Interrupted"),
    ],
)
def test_an_error_is_one_message_an_exit_code_and_one_object(args, code, name, capsys):
    assert run(job, [*args, "--json"]) == code
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert (shown["error"], shown["exit_code"]) == (name, code)
    assert shown["status"] in {"error", "interrupted"}
    assert shown["message"]
    assert err.lstrip().startswith("Interrupted." if code == ExitCode.INTERRUPTED else "error: ")
    assert "Traceback" not in err
    assert "amina.bello" not in out + err


@pytest.mark.parametrize("how", ["switch", "environment"])
def test_a_traceback_is_shown_on_request_and_masked(how, capsys, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("PAYSTACK_TRACEBACK", "1")
    assert run(job, ["--fail", "unknown", *(["--traceback"] if how == "switch" else [])]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert 'raise ValueError("row of' in err
    assert "amina.bello" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_handled_only_while_a_command_runs(number, request):
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it would be ignored
    request.addfinalizer(lambda: signal.signal(number, before))
    assert run(lambda: os.kill(os.getpid(), number)) == ExitCode.INTERRUPTED
    assert signal.getsignal(number) is signal.SIG_DFL


def test_help_is_data_and_exits_0(capsys):
    assert run(job, ["--help"]) == 0
    assert "--traceback" in capsys.readouterr().out


def test_a_question_without_a_person_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    terminal = Terminal()
    with pytest.raises(UsageError) as refusal:
        terminal.confirm("Send 5 changes?")
    assert "--yes" in refusal.value.advice
    with pytest.raises(UsageError):
        terminal.confirm("Deny 9,000 customers.", "9000")


class Person:
    """Someone at the keyboard who types `answer`."""

    def __init__(self, answer):
        self.answer = answer

    def isatty(self):
        return True

    def fileno(self):
        raise io.UnsupportedOperation

    def readline(self):
        return self.answer + "\n"


@pytest.mark.parametrize(
    ("answer", "yes"), [("y", True), ("Yes", True), ("", False), ("n", False), ("yep", False)]
)
def test_only_a_clear_yes_is_a_yes(answer, yes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Person(answer))
    assert Terminal(json_output=True).confirm("Send?") is yes
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("answer", "right"), [("9000", True), ("9,000", True), ("y", False), ("900", False)])
def test_a_typed_phrase_must_be_that_phrase(answer, right, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Person(answer))
    assert Terminal().confirm("Deny.", "9000") is right


@pytest.mark.parametrize(
    ("before", "answer", "yes"),
    [(b"y\n", b"n\n", False), (b"n\nls\n", b"y\n", True), (b"y", b"\n", False), (b"", b"\xff\n", False)],
)
def test_what_was_typed_before_the_question_is_no_answer(before, answer, yes, monkeypatch):
    hands, keyboard = pty.openpty()

    class Screen(io.StringIO):
        def write(self, text):
            os.write(hands, answer if "Send?" in text else b"")
            return super().write(text)

    os.write(hands, before)
    with os.fdopen(hands, "rb"), os.fdopen(keyboard, encoding="utf-8") as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "stderr", Screen())
        assert Terminal().confirm("Send?") is yes


def test_hostile_text_cannot_steer_the_terminal(capsys):
    Terminal().say("name \x1b[2Jwiped\x07 \u202egnp.exe [red]x[/red]\nmore")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\u202e" not in err
    assert "[red]x[/red]" in err
    assert clean("é 名 🙂") == "é 名 🙂"
    assert clean("a\u200b\xad\u2066\u3164\ufff9\U000e0041b\nc\td") == "ab\nc d"


def test_a_value_cannot_add_a_line(capsys):
    Terminal().print_summary("Done", [("file", "a.csv\n\nNext:\n  rm -r x")], ["ls 'a\nb'"])
    Terminal().table("T\nNext:", ["c\nNext:"], [["x\nNext:"]])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()].count("Next:") == 1


def test_long_commands_stay_on_one_line_so_that_they_can_be_pasted(capsys):
    command = "duckdb paystack_customers.duckdb " + "x" * 300
    Terminal().print_summary("Copied", [], [command])
    assert f"  {command}" in capsys.readouterr().out.splitlines()


PROGRAM = textwrap.dedent("""
    import sys, click
    from paystack_source.cli.terminal import options, run
    @click.command()
    @options
    def job(terminal):
        for n in range(5000):
            terminal.table("t", ["a"], [["x" * 100]]) if n < 200 else None
        terminal.finish("Copied", [("rows", 3)], {"status": "complete"})
        print("done", file=sys.stderr)
        return 3
    sys.exit(run(job))
""")


def test_a_reader_that_leaves_early_does_not_change_the_outcome():
    child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.read(10)
    child.stdout.close()
    with child.stderr:
        err = child.stderr.read().decode()
    assert child.wait() == 3
    assert err == "done\n"


HANGING = textwrap.dedent("""
    import fcntl, signal, sys, termios, time, click
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as if these tests were not run under nohup
    from paystack_source.cli.terminal import options, run
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    @click.command()
    @options
    def job(terminal):
        terminal.say("about to read")
        with terminal.progress("Reading customers", total=3, unit="customers") as progress:
            while True:
                progress.advance(1)
                time.sleep(0.01)
    sys.exit(run(job, ["--json"]))
""")


def test_a_closed_terminal_ends_a_run_as_ctrl_c_does(tmp_path):
    answer = tmp_path / "answer.json"
    leader, follower = pty.openpty()
    with answer.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", HANGING],
            stdin=follower,
            stdout=out,
            stderr=follower,
            start_new_session=True,
        )
    os.close(follower)
    shown = b""
    while b"customers" not in shown:
        shown += os.read(leader, 65536)
    os.close(leader)
    assert child.wait(PATIENCE) == ExitCode.INTERRUPTED
    assert last_line(answer.read_text())["status"] == "interrupted"


FULL = textwrap.dedent("""
    import sys
    from paystack_source.cli.terminal import run
    from tests.terminal.test_terminal import job
    sys.exit(run(job, sys.argv[1:]))
""")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full disk to write to")  # noqa: PTH110
@pytest.mark.parametrize("words", [[], ["--json"], ["--json", "--log-format", "json"]])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_under_a_stream_changes_no_outcome(words, stream):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        done = subprocess.run(
            [python(), "-c", FULL, *words], check=False, text=True, timeout=PATIENCE, **streams
        )
    assert done.returncode == ExitCode.OK
    if stream == "stdout" and words:
        assert "the output there is lost" in done.stderr
        assert "Traceback" not in done.stderr
    elif words:
        assert last_line(done.stdout)["status"] == "complete"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full disk to write to")  # noqa: PTH110
@pytest.mark.parametrize(
    "words",
    [
        ["query", "select 1"],
        ["query", "select 1", "--json"],
        ["bulk", "status"],
        ["bulk", "status", "--json"],
    ],
)
def test_of_a_command_that_only_shows_a_lost_answer_is_an_error(words, tmp_path):
    with duckdb.connect(str(tmp_path / "paystack_sandbox.duckdb")) as copy:
        copy.execute(
            "create schema paystack; create table paystack.customers as select 1 as id, now() as created_at"
        )
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [python(), "-m", "paystack_source", *words, "--sandbox"],
            cwd=tmp_path, check=False, text=True, timeout=PATIENCE, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert done.returncode == ExitCode.UNEXPECTED, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_so(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert run(lambda: os.kill(os.getpid(), number)) == ExitCode.OK
    finally:
        signal.signal(number, before)


class Leaving:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_not_lost_where_nothing_can_be_raised(number, capsys):
    def command():
        Leaving(number)
        threading.Event().wait(PATIENCE)

    assert run(command) == ExitCode.INTERRUPTED
    assert "Exception ignored" not in capsys.readouterr().err


LOADING = textwrap.dedent("""
    import os, signal, sys
    from paystack_source.cli.terminal import run

    def command():
        import dlt

        @dlt.destination
        def there(items, table):
            os.kill(os.getpid(), signal.SIGINT)

        dlt.pipeline("interrupted", destination=there, pipelines_dir=sys.argv[1]).run([{"id": 1}], table_name="rows")

    sys.exit(run(command, []))
""")


def test_an_interrupt_while_dlt_loads_is_not_forgotten_once_it_has_loaded(tmp_path):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIME__")}
    done = subprocess.run(
        [python(), "-c", LOADING, str(tmp_path)],
        env=plain,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == ExitCode.INTERRUPTED, done.stderr


def on_a_tty(program, env):
    """What a person sees: the program's stderr and stdout on a pseudo-terminal."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, **env},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(leader)
    assert child.wait() == 0
    return shown.decode()


LIVE = textwrap.dedent("""
    from paystack_source.cli.terminal import Terminal
    terminal = Terminal()
    with terminal.progress("Reading customers", total=200, unit="customers") as progress:
        progress.advance(200)
    terminal.warn("one")
""")


def test_on_a_terminal_the_bar_is_live_and_the_last_state_stays():
    shown = on_a_tty(LIVE, {"TERM": "xterm-256color", "COLUMNS": "120", "NO_COLOR": ""})
    assert "200 of 200 customers (100 %)" in shown
    assert "\x1b[33mwarning: " in shown


def test_no_color_is_honoured():
    shown = on_a_tty(LIVE, {"TERM": "xterm-256color", "COLUMNS": "120", "NO_COLOR": "1"})
    assert "\x1b[33m" not in shown
    assert "warning: one" in shown


NARROW = textwrap.dedent("""
    from paystack_source.cli.terminal import Terminal, run
    row = ("CUS_fozejmg22pybxfs", "risk_action", "deny → allow", None)
    names = ("customer", "field", "change", "note")
    run(lambda: Terminal().table("What would change …", names, [row, row]))
""")


def test_a_narrow_terminal_without_our_characters_shows_words_whole():
    shown = on_a_tty(NARROW, {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "40", "PYTHONIOENCODING": "ascii"})
    assert (
        shown.count("CUS_fozejmg22pybxfs") == shown.count("risk_action") == shown.count("deny -> allow") == 2
    )
    assert "What would change ...: 2" in shown
    shown = on_a_tty(NARROW, {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80", "PYTHONIOENCODING": "ascii"})
    assert shown.count("What would change ...") == 1
