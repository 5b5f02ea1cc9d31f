"""What the design promises, and whether the latest results keep it."""

from dataclasses import dataclass

from figures import LABELS, figures, seconds

SEQUENTIAL = ("naive", "rest_api_best", "pypaystack2")


@dataclass
class Target:
    """One promise, what was measured, and whether it holds (None: not known yet)."""

    what: str
    measured: str
    holds: bool | None


def at_least(what, found, other, least):
    """The product is LEAST times as fast as the peer OTHER."""
    us, them = found.get("product"), found.get(other)
    if not us or not them:
        return []
    factor = them.wall / us.wall
    return [
        Target(f"{what} {LABELS[other]}: at least {least} times as fast", f"{factor:.1f}x", factor >= least)
    ]


def at_most(what, value, limit, shown=None):
    return [Target(what, str(value) if shown is None else shown, None if value is None else value <= limit)]


def near_ideal(what, us, spent, limit):
    """SPENT seconds against the ideal of the runs of US, at most LIMIT times it."""
    ideal = us.median("ideal")
    shown = f"{seconds(spent)} against {seconds(ideal)} ({spent / ideal:.2f}x)"
    return at_most(f"{what}: at most {limit} times the ideal", spent / ideal, limit, shown)


def extraction():
    latency, cpu, memory = figures("latency"), figures("cpu"), figures("memory")
    for peer in SEQUENTIAL:
        yield from at_least("Latency-bound, against", latency, peer, 12)
    us, floor = cpu.get("product"), cpu.get("floor")
    if us and floor:
        factor = us.wall / floor.wall
        yield from at_most("CPU-bound: at most 1.5 times the floor", factor, 1.5, f"{factor:.2f}x")
    if us and (floor := cpu.get("floor_kept")):
        factor = us.wall / floor.wall
        what = "CPU-bound: at most 1.5 times the floor over the same libraries (urllib3, dlt)"
        yield from at_most(what, factor, 1.5, f"{factor:.2f}x")
    for peer, least in (("rest_api_best", 4), ("rest_api", 15), ("naive", 1.5)):
        yield from at_least("CPU-bound, against", cpu, peer, least)
    if us:
        peak = us.worst("peak_mb")
        yield from at_most("Peak memory at 1,000,000 customers: at most 600 MB", peak, 600, f"{peak:,.0f} MB")
    if us and (more := memory.get("product")):
        peak = more.median("peak_mb")
        growth = peak / us.median("peak_mb") - 1
        shown = f"{peak:,.0f} MB ({growth:+.0%})"
        yield from at_most("Peak memory at 3,000,000: within 15 % of that", growth, 0.15, shown)
    if us := figures("quota").get("product"):
        yield from near_ideal("Quota-bound, 180,000 customers", us, us.wall, 1.1)
        yield from at_most("Quota-bound: no 429", us.worst("rate_limited"), 0)
    if us := figures("empty").get("product"):
        yield from at_most(
            "Empty increment on 1,000,000: under 5 s with start-up", us.wall, 5, seconds(us.wall)
        )
        yield from at_most("Empty increment: at most 3 requests", us.worst("requests"), 3)
    if us := figures("merge").get("product"):
        what = "100 new rows into 5,000,000: a few seconds (taken as 5) with start-up"
        yield from at_most(what, us.wall, 5, seconds(us.wall))


def bulk():
    fast, journal = figures("bulk-latency"), figures("bulk-journal")
    yield from at_least("Bulk, 2,000 risk actions at 50 ms, against", fast, "pypaystack2_sync", 10)
    if us := fast.get("product"):
        yield from near_ideal(
            "Bulk at 50 ms, sending (start-up and plan apart)", us, us.median("seconds") or us.wall, 1.3
        )
    if us := figures("bulk-quota").get("product"):
        yield from near_ideal("Bulk, 2,000 at 300 ms under the live quota", us, us.wall, 1.1)
        # A 429 is sent again: as many requests as rows means that there was none.
        again = max(run["requests"] - run["rows"] for run in us.runs)
        yield from at_most("Bulk under the live quota: not one 429", again, 0)
    if "product" in journal and "unsynced" in journal:
        cost = journal["product"].wall / journal["unsynced"].wall - 1
        yield from at_most("Journal: under 10 % of the run", cost, 0.10, f"{cost:+.1%}")
    if us := figures("bulk-plan").get("product"):
        peak = us.worst("peak_mb")
        yield from at_most("Plan of 1,000,000 rows: under 30 s", us.wall, 30, seconds(us.wall))
        yield from at_most("Plan of 1,000,000 rows: under 1 GB", peak, 1000, f"{peak:,.0f} MB")


def targets():
    return [*extraction(), *bulk()]
