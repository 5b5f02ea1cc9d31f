"""The commands where Windows lacks what POSIX has: modules, calls, signals, UTF-8 as the encoding of everything.

Nobody ran them on Windows. Here the package, and only it, gets an `os`, a `signal` and an `errno` without what Windows
does not have, and none of the modules that are not there.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What the documentation of Python marks as "Availability: Unix".
# fmt: off
MODULES = {"crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
CALLS = """
    chown chroot ctermid fchdir fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp
    getpriority getresgid getresuid getsid getuid initgroups killpg lchmod lchown lockf major makedev minor mkfifo mknod nice
    openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev readv sched_getaffinity
    sendfile setegid seteuid setgid setgroups setpgid setpriority setsid setuid statvfs sync sysconf tcgetpgrp uname wait
    wait3 wait4 waitid writev fdatasync fpathconf fstatvfs memfd_create
    O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC O_TMPFILE
""".split()  # noqa: SIM905
SIGNALS = """
    SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGUSR1 SIGUSR2
    SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
    SIG_BLOCK SIG_UNBLOCK SIG_SETMASK
""".split()  # noqa: SIM905
# fmt: on

WITHOUT = f"""
import builtins, json, os, signal, sys, types, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="paystack_source")

def without(module, names, **other):
    kept = {{name: value for name, value in vars(module).items() if name not in names}}
    poor = types.ModuleType(module.__name__)
    poor.__dict__.update(kept | other)
    return poor

poor = {{
    "os": without(os, {CALLS!r}, name="nt"),
    "signal": without(signal, {SIGNALS!r}, SIGBREAK=signal.SIGUSR1),
}}
real = builtins.__import__

def importing(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {{}}).get("__name__", "").startswith("paystack_source"):
        if name.partition(".")[0] in {MODULES!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
        if name in poor:
            return poor[name]
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = importing
from paystack_source.__main__ import main
from tests.quick_dlt import make_quick
make_quick()  # dlt has all that it wants
for line in sys.stdin:
    sys.argv = ["paystack-source.exe", *json.loads(line)]
    print("exit", main())
    sys.stdout.flush()
"""


@pytest.fixture
def windows(tmp_path, monkeypatch):
    """Starts a Python as in a console of Windows that writes into a file."""
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "60")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")

    def start(code, stderr):
        return subprocess.Popen(
            [sys.executable, "-X", "warn_default_encoding", "-c", code], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=stderr, encoding="cp1252", cwd=tmp_path,
        )  # fmt: skip

    return start


def test_a_copy_a_plan_its_run_and_a_question_where_nothing_is_posix(windows, tmp_path):
    folder = tmp_path / "the officer's files"
    folder.mkdir()
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr, windows(WITHOUT, stderr) as process:

        def said(code, *words):
            """The lines of a command that ends with this exit code."""
            print(json.dumps(words), file=process.stdin, flush=True)
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("exit "):
                    break
            assert lines[-1:] == [f"exit {code}"], "\n".join([*lines, errors.read_text("cp1252")])
            return lines[:-1]

        def told(code, *words):
            """The JSON object that it ends with."""
            return json.loads(said(code, *words, "--json")[-1])

        assert told(0, "customers", "--sandbox")["warehouse_total"] == 60
        assert told(0, "query", "--sandbox", "select 'Ọlá → 你' as name")["rows"] == [["Ọlá → 你"]]
        query = "select customer_code from customers where risk_action = 'default' order by 1 limit 20"
        codes = [line for line in said(0, "query", "--sandbox", "--csv", query) if line.startswith("CUS_")]
        lines = ["customer_code,name", *(f"{code},Ọlá →" for code in codes)]
        (folder / "allow.csv").write_text("\n".join(lines), "utf-8")

        plan = [
            "bulk",
            "plan",
            "risk-action",
            str(folder / "allow.csv"),
            "--risk-action",
            "deny",
            "--sandbox",
        ]
        apply = ["bulk", "apply", str(folder / "allow.plan"), "--sandbox", "--yes"]
        planned = said(0, *plan, "--out", str(folder / "allow.plan"))
        assert f'apply "{folder / "allow.plan"}"' in "\n".join(planned)  # as cmd.exe takes it
        applied = told(0, *apply)
        said(0, "bulk", "status", "--sandbox")
        shown = told(0, "bulk", "status", "latest", "--sandbox")
        undone = told(0, "bulk", "undo", "latest", "--sandbox", "--yes")
        said(2, *apply)
        assert [found["applied"] for found in (applied, shown, undone)] == [20, 20, 20]
        assert applied["run_id"] == shown["run_id"]
    results = tmp_path / "paystack_results_sandbox" / applied["run_id"] / "results.csv"
    assert results.read_text("utf-8-sig").count("Ọlá →") == 20


def test_the_package_gets_what_is_taken_away_from_nobody(windows):
    """The test above does take something away."""
    proof = WITHOUT.partition("from paystack_source")[0] + (
        'code = \'import os, signal; print(hasattr(os, "O_NOFOLLOW"), hasattr(signal, "SIGHUP")); import fcntl\'\n'
        "exec(code, {'__name__': 'paystack_source.x'})"
    )
    with windows(proof, subprocess.PIPE) as process:
        out, err = process.communicate()
    assert out.split() == ["False", "False"]
    assert "No module named fcntl" in err


def test_no_module_that_windows_lacks_is_named_anywhere():
    """Not even at a line that no test reaches."""
    found = set()
    for path in sorted((ROOT / "paystack_source").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names} & MODULES
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").partition(".")[0]} & MODULES
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                taken = {"os": CALLS, "signal": SIGNALS}.get(node.value.id, ())
                names = {node.attr} & set(taken)
            else:
                continue
            if names:
                found |= {(path.name, name) for name in names}
    # The lines before them ask whether there is such a thing.
    asked = {
        ("interrupts.py", "pthread_kill"),
        ("terminal.py", "termios"),
        ("workbook_process.py", "resource"),
        ("private_files.py", "geteuid"),
        ("settings.py", "geteuid"),
        ("journal.py", "geteuid"),
        ("journal.py", "pwd"),
    }
    assert found <= asked
