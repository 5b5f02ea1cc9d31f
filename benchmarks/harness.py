"""Starts a sandbox and peers as processes and measures them: wall, CPU, peak memory, what else was busy."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
KEYS = {"test": "sk_test_sandbox", "live": "sk_live_sandbox"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(**extra):
    """The caller's environment without anything that would steer a peer, plus EXTRA."""
    steering = ("SOURCES__", "DESTINATION__", "PAYSTACK", "DLT_", "RUNTIME__", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return kept | {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1", "NO_COLOR": "1"} | extra


class Server:
    """`python -m paystack_source.sandbox` in a process of its own."""

    def __init__(self, *, customers, mode="test", latency=0, quota=None, seed=1, state=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = KEYS[mode]
        self.customers = customers
        command = [sys.executable, "-m", "paystack_source.sandbox", "--port", str(self.port)]
        command += ["--customers", str(customers), "--seed", str(seed), "--mode", mode]
        command += ["--latency", str(latency)]
        if quota is not None:
            command += ["--quota", str(quota)]
        if state is not None:
            command += ["--state", str(state)]
        self.command = command
        self.process = None
        self.log = None

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=clean_environment(), stdout=self.log, stderr=self.log
        )
        until = time.monotonic() + 300
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.log.seek(0)
                self.__exit__()
                raise RuntimeError(f"the sandbox did not start: {self.log.read()[-2000:]!r}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def get(self, path):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def post(self, path, body):
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    @staticmethod
    def rest(window):
        """Lets the quota's window of WINDOW seconds pass, so that the next run starts with all of it."""
        time.sleep(window + 1)

    def all_customers(self):
        """Every customer as the list endpoint gives it (for small sandboxes: it asks page by page)."""
        page, pages = 1, 1
        while page <= pages:
            body = self.get(f"/customer?perPage=100&page={page}")
            pages = int(body["meta"]["pageCount"])
            yield from body["data"]
            page += 1

    def cpu_seconds(self):
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


@dataclass
class Measured:
    """One run of one process and its children."""

    wall: float
    cpu: float
    peak_mb: float
    exit_code: int | None
    timed_out: bool
    foreign_cpu: float
    """Share of the machine's cores that neither the process nor the sandbox used: noise, 0 is best."""
    said: dict = field(default_factory=dict)
    """The last line of standard output, if it was a JSON object."""
    complaint: str = ""

    @property
    def fine(self):
        return self.exit_code == 0 and not self.timed_out


class MemoryWatch(threading.Thread):
    """Peak resident memory of a process tree: the root's own high-water mark, and the sampled sum of all."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.done = threading.Event()

    def run(self):
        tick = 0
        while not self.done.is_set():
            # The kernel's own mark misses nothing between two looks, but exists per process only.
            with contextlib.suppress(OSError, ValueError, IndexError):
                status = Path(f"/proc/{self.pid}/status").read_text()
                mark = int(status.split("VmHWM:", 1)[1].split(None, 1)[0]) * 1024
                self.peak = max(self.peak, mark)
            if tick % 4 == 0:
                with contextlib.suppress(psutil.Error):
                    root = psutil.Process(self.pid)
                    tree = [root, *root.children(recursive=True)]
                    if len(tree) > 1:
                        self.peak = max(self.peak, sum(self.resident(p) for p in tree))
            tick += 1
            self.done.wait(0.05)

    @staticmethod
    def resident(process):
        try:
            return process.memory_info().rss
        except psutil.Error:
            return 0


def busy_seconds():
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def measure(command, *, cwd, env, timeout, server=None):
    """Runs COMMAND to its end and says what it took; past TIMEOUT seconds it is ended with its children."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        served, busy = (server.cpu_seconds() if server else 0.0), busy_seconds()
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        watch = MemoryWatch(process.pid)
        watch.start()
        late = threading.Event()

        def end():
            late.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        alarm = threading.Timer(timeout, end)
        alarm.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        alarm.cancel()
        watch.done.set()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime
        served = (server.cpu_seconds() if server else 0.0) - served
        foreign = max(0.0, busy_seconds() - busy - cpu - served) / (wall * (os.cpu_count() or 1))
        out.seek(0)
        err.seek(0)
        lines = out.read().decode(errors="replace").strip().splitlines()
        said = {}
        if lines:
            with contextlib.suppress(ValueError):
                last = json.loads(lines[-1])
                said = last if isinstance(last, dict) else {}
        complaint = "" if process.returncode == 0 else err.read().decode(errors="replace")[-1500:]
    return Measured(
        wall=round(wall, 3),
        cpu=round(cpu, 3),
        peak_mb=round(watch.peak / 1e6, 1),
        exit_code=process.returncode,
        timed_out=late.is_set(),
        foreign_cpu=round(foreign, 3),
        said=said,
        complaint=complaint,
    )
