"""What is measured: each scenario takes a Session, runs its peers in turn and records every run."""

import csv
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import bulk_peers
import duckdb
from extractors import (
    AIRBYTE,
    FLOOR,
    FLOOR_KEPT,
    FLOOR_URLLIB3,
    NAIVE,
    PRODUCT,
    PYPAYSTACK2,
    REST,
    REST_BEST,
    extract,
    product_python,
    product_settings,
)
from harness import ROOT, Server, clean_environment, measure
from store import Book

LIVE_QUOTA, WINDOW = 600, 60
IN_FLIGHT = 48  # of a copy
BULK_IN_FLIGHT = 32


@dataclass
class Session:
    """How often, how big, who; and where the results go."""

    book: Book
    runs: int
    quick: bool
    peers: set[str] | None = None
    failed: int = 0

    def wants(self, name):
        return self.peers is None or name in self.peers

    def note(self, peer, run, **facts):
        """Records one run and prints it."""
        self.book.add(
            peer, fine=run.fine, wall=run.wall, cpu=run.cpu, peak_mb=run.peak_mb, foreign_cpu=run.foreign_cpu,
            timed_out=run.timed_out, **facts,
        )  # fmt: skip
        shown = ", ".join(f"{k} {v}" for k, v in facts.items() if v not in (None, [], {}))
        state = "" if run.fine else f"  FAILED (exit {run.exit_code}{', timed out' if run.timed_out else ''})"
        print(
            f"   {peer:14} {run.wall:8.2f} s  cpu {run.cpu:7.2f} s  {run.peak_mb:7.0f} MB  "
            f"noise {run.foreign_cpu:4.0%}  {shown}{state}",
            flush=True,
        )
        if not run.fine:
            self.failed += 1
            print("      " + run.complaint.replace("\n", "\n      "), file=sys.stderr, flush=True)


@contextmanager
def folder():
    """A place for one run, gone afterwards (copies of a million customers are not small)."""
    place = Path(tempfile.mkdtemp(prefix="paystack-bench-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def ideal_seconds(requests, *, latency, quota, in_flight=IN_FLIGHT):
    """The least wall time that the quota and the latency allow, counting nothing but waiting.

    The first QUOTA requests may leave at once, the next when the window of the first has passed, and so on.
    """
    full_windows, last = (ceil(requests / quota) - 1, (requests - 1) % quota + 1) if quota else (0, requests)
    return full_windows * WINDOW + ceil(last / in_flight) * latency / 1000


def side_by_side(session, sandboxes, peers, *, timeout, in_flight=16):
    """Interleaved runs of PEERS, a list of (extractor, sandbox name), against running sandboxes."""
    wanted = [(peer, name) for peer, name in peers if session.wants(peer.name)]
    if not session.quick:
        start_up(session, [peer for peer, _ in wanted])
        for server in sandboxes.values():  # whoever is first would pay for a sandbox that was never read
            with folder() as out:
                extract(FLOOR, server, out, timeout=timeout)
    for _ in range(session.runs):
        for peer, name in wanted:
            server = sandboxes[name]
            extra = ["--wires", str(in_flight)] if peer is FLOOR else []
            with folder() as out:
                run, held = extract(peer, server, out, timeout=timeout, quick=session.quick, arguments=extra)
            rows, distinct = held.get("rows"), held.get("distinct")
            session.note(
                peer.name, run, customers=server.customers, rows=rows, distinct=distinct,
                lost=None if distinct is None else server.customers - distinct, lacking=held.get("lacking"),
                requests=run.said.get("requests"), seconds=run.said.get("seconds"),
            )  # fmt: skip


def start_up(session, peers):
    """One run of each peer on next to nothing: warms its files, and says how much of a run is start-up."""
    with Server(customers=100, quota=0) as server:
        for peer in peers:
            for _ in range(2):
                with folder() as out:
                    run, _ = extract(peer, server, out, timeout=120)
            session.book.add(peer.name, kind="start", fine=run.fine, wall=run.wall, peak_mb=run.peak_mb)


def latency(session):
    """300 ms per answer and no quota: what reading pages side by side is worth."""
    customers, delay = (1_000, 20) if session.quick else (20_000, 300)
    peers = (
        [PRODUCT, FLOOR, NAIVE] if session.quick else [PRODUCT, FLOOR, NAIVE, REST_BEST, PYPAYSTACK2, AIRBYTE]
    )
    with Server(customers=customers, latency=delay, quota=0) as server:
        side_by_side(session, {"it": server}, [(p, "it") for p in peers], timeout=600, in_flight=IN_FLIGHT)


def cpu(session):
    """No latency: what each way of doing it costs in work. The slowest peers read a tenth and are scaled."""
    large, small = (5_000, 1_000) if session.quick else (1_000_000, 100_000)
    peers = [(PRODUCT, "large"), (FLOOR, "large"), (NAIVE, "large")]
    if not session.quick:
        peers += [
            (FLOOR_URLLIB3, "large"),
            (FLOOR_KEPT, "large"),
            (REST_BEST, "large"),
            (REST, "small"),
            (PYPAYSTACK2, "small"),
            (AIRBYTE, "small"),
        ]
    with Server(customers=large, quota=0) as big, Server(customers=small, quota=0) as little:
        side_by_side(session, {"large": big, "small": little}, peers, timeout=900)


def memory(session):
    """The product at three times the size: memory must not grow with the table."""
    with Server(customers=10_000 if session.quick else 3_000_000, quota=0) as server:
        side_by_side(session, {"it": server}, [(PRODUCT, "it")], timeout=900)


def quota(session):
    """The live quota in real time at 300 ms: never idle while quota is left, never a 429."""
    customers, delay = (500, 20) if session.quick else (180_000, 300)
    with Server(customers=customers, latency=delay, quota=LIVE_QUOTA) as server:
        for number in range(session.runs):
            if number:
                server.rest(WINDOW)
            with folder() as out:
                run, held = extract(PRODUCT, server, out, quick=session.quick, timeout=900, quota=LIVE_QUOTA)
            requests = run.said.get("requests") or 0
            pages = ceil(customers / 100)
            session.note(
                "product", run, customers=customers, rows=held.get("rows"), distinct=held.get("distinct"),
                lost=customers - (held.get("distinct") or 0), requests=requests,
                seconds=run.said.get("seconds"), rate_limited=run.said.get("rate_limited"),
                ideal=round(ideal_seconds(requests or pages, latency=delay, quota=LIVE_QUOTA), 1),
                steady=round(pages / LIVE_QUOTA * WINDOW, 1),
            )  # fmt: skip


def empty(session):
    """A run that finds nothing new in a large table, start-up included."""
    customers = 5_000 if session.quick else 1_000_000
    with Server(customers=customers, quota=0) as server, folder() as out:
        loaded, held = extract(PRODUCT, server, out, quick=session.quick, timeout=900)
        if not loaded.fine:
            session.note("load", loaded)
            return
        for _ in range(session.runs):
            run, held = extract(
                PRODUCT, server, out, quick=session.quick, timeout=120, arguments=["--refresh-budget", "0"]
            )
            session.note(
                "product", run, customers=customers, rows=held.get("rows"), requests=run.said.get("requests")
            )


def merge(session):
    """100 new customers into a large table on DuckDB, start-up included."""
    customers, new = (5_000, 10) if session.quick else (5_000_000, 100)
    with Server(customers=customers, quota=0) as server, folder() as out:
        loaded, held = extract(PRODUCT, server, out, quick=session.quick, timeout=1800)
        session.note(
            "load", loaded, customers=customers, rows=held.get("rows"), distinct=held.get("distinct")
        )
        if not loaded.fine:
            return
        for number in range(session.runs):
            for one in range(new):
                server.post("/customer", {"email": f"new{number}x{one}@example.com"})
            run, held = extract(
                PRODUCT, server, out, quick=session.quick, timeout=300, arguments=["--refresh-budget", "0"]
            )
            session.note(
                "product", run, customers=customers, rows=held.get("rows"), distinct=held.get("distinct"),
                lost=customers + (number + 1) * new - (held.get("distinct") or 0),
                requests=run.said.get("requests"),
            )  # fmt: skip


def write_changes(server, file, action):
    """A CSV that sets ACTION for every customer of the sandbox."""
    codes = [row["customer_code"] for row in server.all_customers()]
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("customer_code", "risk_action"), *((code, action) for code in codes)])
    return len(codes)


def bulk_side_by_side(session, server, peers, *, quota, delay, timeout):
    actions = ("deny", "allow", "default")
    turn = 0
    for number in range(session.runs):
        if number and quota:
            server.rest(WINDOW)
        for peer in peers:
            if not session.wants(peer.name):
                continue
            action = actions[turn % len(actions)]
            turn += 1
            with folder() as out:
                rows = write_changes(server, out / "changes.csv", action)
                run = peer.run(server, out, quota=quota, timeout=timeout, quick=session.quick)
            done = sum(row["risk_action"] == action for row in server.all_customers())
            session.note(
                peer.name, run, rows=rows, done=done, lost=rows - done, seconds=run.said.get("seconds"),
                requests=run.said.get("requests"), rate_limited=run.said.get("rate_limited"),
                ideal=round(ideal_seconds(rows, latency=delay, quota=quota, in_flight=BULK_IN_FLIGHT), 2),
            )  # fmt: skip


def bulk_latency(session):
    """2,000 risk actions at 50 ms without quota."""
    customers, delay = (100, 5) if session.quick else (2_000, 50)
    peers = bulk_peers.ALL[:2] if session.quick else bulk_peers.ALL
    with Server(customers=customers, latency=delay, quota=0) as server:
        bulk_side_by_side(session, server, peers, quota=0, delay=delay, timeout=600)


def bulk_quota(session):
    """2,000 risk actions at 300 ms under the live quota, in real time."""
    customers, delay = (50, 5) if session.quick else (2_000, 300)
    with Server(customers=customers, latency=delay, quota=LIVE_QUOTA) as server:
        bulk_side_by_side(session, server, bulk_peers.ALL[:1], quota=LIVE_QUOTA, delay=delay, timeout=600)


def bulk_journal(session):
    """The product with its journal as it is, and with one that never waits for the disk."""
    customers = 100 if session.quick else 2_000
    delay = 5 if session.quick else 50
    with Server(customers=customers, latency=delay, quota=0) as server:
        bulk_side_by_side(session, server, bulk_peers.JOURNALS, quota=0, delay=delay, timeout=300)


def bulk_plan(session):
    """A plan that changes every customer of a large copy."""
    customers = 5_000 if session.quick else 1_000_000
    with Server(customers=customers, quota=0) as server, folder() as out:
        loaded, _ = extract(PRODUCT, server, out, quick=session.quick, timeout=900)
        if not loaded.fine:
            session.note("load", loaded)
            return
        with duckdb.connect(out / PRODUCT.database, read_only=True) as base:
            base.execute(
                f"copy (select customer_code, 'deny' as risk_action from {PRODUCT.table}) "
                f"to '{out / 'changes.csv'}' (header)"
            )
        for number in range(session.runs):
            plan = out / f"changes{number}.plan"
            command = [
                product_python(quick=session.quick),
                ROOT / "pipelines" / "bulk.py",
                "plan",
                "risk-action",
                out / "changes.csv",
            ]
            command += ["--out", plan, "--json"]
            env = clean_environment(**product_settings(server, out, 0))
            run = measure(command, cwd=out, env=env, timeout=600, server=server)
            session.note(
                "product",
                run,
                customers=customers,
                rows=run.said.get("rows"),
                to_send=run.said.get("to_send"),
            )


ALL = {
    "latency": latency,
    "cpu": cpu,
    "memory": memory,
    "quota": quota,
    "empty": empty,
    "merge": merge,
    "bulk-latency": bulk_latency,
    "bulk-quota": bulk_quota,
    "bulk-journal": bulk_journal,
    "bulk-plan": bulk_plan,
}
QUICK = ("latency", "empty", "bulk-latency")
