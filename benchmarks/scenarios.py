"""What is measured: each scenario takes a Session, runs its peers in turn and records every run."""

import csv
import itertools
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import bulk_peers
import duckdb
import environments
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
)
from harness import Server, clean_environment, measure
from store import Book

LIVE_QUOTA, WINDOW = 600, 60
IN_FLIGHT = 48  # of a copy
BULK_IN_FLIGHT = 32
BEFORE = "before"


@dataclass
class Session:
    """How often, how big, who; and where the results go."""

    book: Book
    runs: int
    quick: bool
    peers: set[str] | None = None
    before: str | None = None
    """An earlier commit of the product, which is a peer then."""
    failed: int = 0

    def with_before(self, product):
        """The product of today, and that of the earlier commit."""
        if not self.before:
            return [product]
        return [product, replace(product, name=BEFORE, root=environments.checkout_of(self.before))]

    def wants(self, name):
        return self.peers is None or name in self.peers

    def note(self, peer, run, **facts):
        """Records one run and prints it."""
        if peer == BEFORE:
            facts["commit"] = self.before
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
    customers, delay = (300, 20) if session.quick else (20_000, 300)
    peers = [*session.with_before(PRODUCT), FLOOR, NAIVE]
    if not session.quick:
        peers += [REST_BEST, PYPAYSTACK2, AIRBYTE]
    with Server(customers=customers, latency=delay, quota=0) as server:
        side_by_side(session, {"it": server}, [(p, "it") for p in peers], timeout=600, in_flight=IN_FLIGHT)


def cpu(session):
    """No latency: what each way of doing it costs in work. The slowest peers read a tenth and are scaled."""
    large, small = (5_000, 1_000) if session.quick else (1_000_000, 100_000)
    peers = [(peer, "large") for peer in (*session.with_before(PRODUCT), FLOOR, NAIVE)]
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
    """Three times the size, and answers as slow as Paystack's: memory must not grow with either."""
    customers, delay = (10_000, 20) if session.quick else (3_000_000, 150)
    with Server(customers=customers, latency=delay, quota=0) as server:
        peers = [(peer, "it") for peer in session.with_before(PRODUCT)]
        side_by_side(session, {"it": server}, peers, timeout=900)


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


@contextmanager
def copies(session, server):
    """A whole copy by each version of the product in a folder of its own: (product, folder) pairs."""
    with ExitStack() as folders:
        made = []
        for product in session.with_before(PRODUCT):
            out = folders.enter_context(folder())
            run, held = extract(product, server, out, quick=session.quick, timeout=1800)
            if product is PRODUCT:
                session.note(
                    "load", run, customers=server.customers, rows=held.get("rows"),
                    distinct=held.get("distinct"),
                )  # fmt: skip
            if run.fine:
                made.append((product, out))
        yield made


def increment(session, server, product, out, expected):
    """One run that looks for nothing but new customers."""
    run, held = extract(
        product, server, out, quick=session.quick, timeout=300, arguments=["--refresh-budget", "0"]
    )
    session.note(
        product.name, run, customers=server.customers, rows=held.get("rows"), distinct=held.get("distinct"),
        lost=expected - (held.get("distinct") or 0), requests=run.said.get("requests"),
    )  # fmt: skip


def empty(session):
    """A run that finds nothing new in a large table, start-up included."""
    customers = 5_000 if session.quick else 1_000_000
    with Server(customers=customers, quota=0) as server, copies(session, server) as made:
        for _ in range(session.runs):
            for product, out in made:
                increment(session, server, product, out, customers)


def merge(session):
    """100 new customers into a large table on DuckDB, start-up included."""
    customers, new = (500, 10) if session.quick else (5_000_000, 100)
    with Server(customers=customers, quota=0) as server, copies(session, server) as made:
        for number in range(session.runs):
            for one in range(new):
                server.post("/customer", {"email": f"new{number}x{one}@example.com"})
            for product, out in made:
                increment(session, server, product, out, customers + (number + 1) * new)


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
    peers = [*session.with_before(bulk_peers.PRODUCT), *bulk_peers.OTHERS[: 1 if session.quick else None]]
    with Server(customers=customers, latency=delay, quota=0) as server:
        bulk_side_by_side(session, server, peers, quota=0, delay=delay, timeout=600)


def bulk_quota(session):
    """2,000 risk actions at 300 ms under the live quota, in real time."""
    customers, delay = (50, 5) if session.quick else (2_000, 300)
    with Server(customers=customers, latency=delay, quota=LIVE_QUOTA) as server:
        peers = session.with_before(bulk_peers.PRODUCT)
        bulk_side_by_side(session, server, peers, quota=LIVE_QUOTA, delay=delay, timeout=600)


def bulk_journal(session):
    """The product with its journal as it is, and with one that never waits for the disk."""
    customers = 100 if session.quick else 2_000
    delay = 5 if session.quick else 50
    with Server(customers=customers, latency=delay, quota=0) as server:
        bulk_side_by_side(session, server, bulk_peers.JOURNALS, quota=0, delay=delay, timeout=300)


def bulk_plan(session):
    """A plan that changes every customer of a large copy."""
    customers = 5_000 if session.quick else 1_000_000
    with Server(customers=customers, quota=0) as server, copies(session, server) as made:
        for number, (product, out) in itertools.product(range(session.runs), made):
            changes = out / "changes.csv"
            if not number:
                with duckdb.connect(out / product.database, read_only=True) as base:
                    base.execute(
                        f"copy (select customer_code, 'deny' as risk_action from {product.table}) "
                        f"to '{changes}' (header)"
                    )
            command = [product_python(quick=session.quick), product.root / "pipelines" / "bulk.py"]
            command += ["plan", "risk-action", changes, "--out", out / f"changes{number}.plan", "--json"]
            env = clean_environment(**product.settings(server, out, 0))
            run = measure(command, cwd=out, env=env, timeout=600, server=server)
            rows, to_send = run.said.get("rows"), run.said.get("to_send")
            session.note(product.name, run, customers=customers, rows=rows, to_send=to_send)


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
