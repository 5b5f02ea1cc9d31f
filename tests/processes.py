"""Processes that need not import anything first: `python()` stands for `sys.executable` where a test starts commands.

Importing dlt, pandas and DuckDB takes most of a short command's time. So one process has imported all of it, and forks a
fresh child for each command of any test worker. The child has the working folder, the environment, the arguments and the
streams of its caller; how it ends, by a code or by a signal, is how the caller ends. Scripts, `-c`, our own modules and
the kernels of notebooks are run so; all else is run by the interpreter itself. SIGKILL and SIGSTOP reach the caller alone:
they are for the process whose id the child's caller writes into the file that the variable CHILD names.

`tests/test_wheel.py` starts commands without this, as a user does.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import io
import marshal
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("paystack_source", "tests.", "ipykernel_launcher")

IMPORTED = (
    "adbc_driver_postgresql.dbapi",
    "certifi",
    "deltalake",
    "dlt._workspace._plugins",
    "dlt.common.configuration.plugins",
    "dlt.common.libs.pyarrow",
    "dlt.common.libs.sql_alchemy_compat",
    "dlt.destinations.impl.duckdb.duck",
    "dlt.destinations.impl.filesystem.filesystem",
    "dlt.destinations.impl.postgres.postgres",
    "dlt.sources.helpers.requests",
    "duckdb",
    "python_calamine",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "s3fs",
    "paystack_source.cli.bulk",
    "paystack_source.cli.customers",
    "paystack_source.cli.query",
    "paystack_source.helpers",
    "paystack_source.sandbox.demo",
)
"""By name, since nothing here uses them."""

# What stands for the interpreter. It passes its streams to the process that forks, and then signals to the child.
# The interpreter's own modules alone: to import others takes longer than all else.
CALLER = """#!{python} -SEs
import _signal, _socket, marshal, posix, sys
arguments = sys.argv[1:]
first = (arguments or [""])[0]
ours = first.endswith((".py", "/paystack-source")) or first == "-c" or first == "-m" and arguments[1].startswith({modules!r})
if not ours or posix.environ.keys() & {{b"PYTHONIOENCODING", b"PYTHONUTF8", b"LC_ALL"}}:
    posix.execv({python!r}, [{python!r}, *arguments])
line = _socket.socket(_socket.AF_UNIX)
line.connect({address!r})
told = marshal.dumps([arguments, posix.getcwd(), posix.environ])
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
line.sendmsg([len(told).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
line.sendall(told)
answers = b""
def answer():
    global answers
    while b"\\n" not in answers:
        answers += line.recv(99) or b"1\\n"
    said, _, answers = answers.partition(b"\\n")
    return int(said)
child = answer()
if b"CHILD" in posix.environ:
    with open(posix.environ[b"CHILD"] + b".part", "w") as file:
        file.write(str(child))
    posix.replace(posix.environ[b"CHILD"] + b".part", posix.environ[b"CHILD"])
for passed_on in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
    _signal.signal(passed_on, lambda number, frame: posix.kill(child, number))
for number in (0, 1, 2):
    posix.close(number)
code = answer()
if code < 0:
    if -code != _signal.SIGKILL:
        _signal.signal(-code, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)
"""


FOLDER = "PAYSTACK_TESTS_FORKS"


def offer() -> str:
    """A folder for the process that forks; whoever needs it first starts it. It ends with this process."""
    folder = tempfile.mkdtemp(prefix="forks-")
    os.mkfifo(f"{folder}/input")
    os.open(f"{folder}/input", os.O_RDWR)  # so that the input does not end before
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[FOLDER] = folder
    return folder


@functools.cache
def python() -> str:
    """The path of what runs our commands as `sys.executable` does, only sooner."""
    folder = Path(os.environ.get(FOLDER) or offer())
    caller, address = folder / "python", folder / "line"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not caller.exists():
            with (folder / "input").open() as until_it_ends:
                server = subprocess.Popen([sys.executable, __file__, address], cwd=ROOT, stdin=until_it_ends,
                                          stdout=subprocess.PIPE)  # fmt: skip
            atexit.register(server.poll)  # which keeps it
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            text = CALLER.format(python=sys.executable, modules=MODULES, address=str(address))
            caller.touch(0o755)
            caller.write_text(text)
    return str(caller)


def serve(address: str) -> None:
    """Import everything, then fork a child for each caller until standard input ends."""
    sys.path[0] = str(ROOT)
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("tests.quick_dlt").make_quick()
    _warm()
    gc.freeze()
    ended, tell = socket.socketpair()
    for end in (ended, tell):
        end.setblocking(False)
    signal.set_wakeup_fd(tell.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    callers: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while sys.stdin not in (ready := select.select([door, ended, sys.stdin], [], [])[0]):
            if ended in ready:
                ended.recv(4096)
                _tell_ends(callers)
            if door in ready:
                line, _ = door.accept()
                _fork_for(line, callers, [door, ended, tell])


def _warm() -> None:
    """Copy and change some customers once: what is looked up, imported and remembered meanwhile each child has."""
    from dlt.common.configuration.container import Container

    from paystack_source import PaystackClient, bulk_set_risk_action
    from paystack_source.sandbox import Sandbox
    from paystack_source.warehouse.sync import copy_customers, open_pipeline

    here, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, Sandbox(20, limit=0) as api:
        places = dict.fromkeys(("HOME", "DLT_DATA_DIR", "XDG_STATE_HOME"), folder)
        try:
            os.chdir(folder)
            os.environ.clear()  # it is that of the first test which starts a command, and may name its database
            os.environ.update(places, PATH=environment["PATH"], RUNTIME__DLTHUB_TELEMETRY="false")
            with PaystackClient(api.secret_key, base_url=api.url, quota=0) as client:
                for _ in range(2):
                    copy_customers(open_pipeline("duckdb", "paystack"), client, history=True, details=5)
                codes = [row["customer_code"] for row in api.customers_truth()]
                Path("rows.csv").write_text("\n".join(["customer_code", *codes]), encoding="utf-8")
                bulk_set_risk_action("rows.csv", "deny", client=client, destination="duckdb", progress=False)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(environment)
    Container.reset_main_thread()  # with the pipeline, the folder and the settings that were in use


def _tell_ends(callers: dict[int, socket.socket]) -> None:
    """Tell the caller of each command that has ended how it did."""
    while callers:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with callers.pop(child) as line, contextlib.suppress(OSError):
            line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _fork_for(line: socket.socket, callers: dict[int, socket.socket], ours: list[socket.socket]) -> None:
    """Fork the command of this caller."""
    length, ancillary, _, _ = line.recvmsg(8, socket.CMSG_SPACE(12))
    streams = array.array("i")
    for _, _, data in ancillary:
        streams.frombytes(data)
    with line.makefile("rb") as lines:
        told = lines.read(int.from_bytes(length, "big"))
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (line, *callers.values(), *ours):
            each.close()
        arguments, folder, environment = marshal.loads(told)
        decoded = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
        _become(arguments, folder, decoded, list(streams))
    for stream in streams:
        os.close(stream)
    callers[child] = line
    with contextlib.suppress(OSError):  # its end is noticed as that of any other
        line.sendall(f"{child}\n".encode())


def _become(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    code: Any = 1
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        time.tzset()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            if stream > 2:
                os.close(stream)
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8", line_buffering=os.isatty(1)
        )
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(2, "w")),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            sys.path[0] = folder
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
        elif arguments[0] == "-m":
            sys.argv = ["-m", *arguments[2:]]
            sys.path[0] = folder
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
        if not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(sys.argv[1])
