"""The runs of one peer in one scenario as one figure: medians, spread, scaling of the slowest peers."""

from dataclasses import dataclass
from statistics import median

import bulk_peers
import extractors
import store

LABELS = {p.name: p.label for p in vars(extractors).values() if isinstance(p, extractors.Extractor)}
LABELS |= {p.name: p.label for p in (*bulk_peers.OTHERS, *bulk_peers.JOURNALS)}

PANELS = (
    ("cpu", "Copy 1,000,000 customers\n(no latency)"),
    ("latency", "Copy 20,000 customers\n(300 ms an answer)"),
    ("bulk-latency", "Change 2,000 customers\n(50 ms an answer)"),
)
"""The scenarios that the plot shows."""


@dataclass
class Figure:
    """The runs of one peer in one scenario, summed up. Times in seconds, memory in MB."""

    peer: str
    runs: list[dict]
    full: int | None
    start: float

    @property
    def label(self):
        if self.peer == "before":
            return f"paystack-source at {self.runs[-1]['commit']}"
        return LABELS.get(self.peer, self.peer)

    @property
    def size(self):
        return self.runs[-1].get("customers")

    @property
    def scaled(self):
        return bool(self.full and self.size and self.size < self.full)

    def stretch(self, wall):
        """What WALL would be at the full size: start-up once, the rest in proportion."""
        return self.start + (wall - self.start) * self.full / self.size if self.scaled else wall

    @property
    def wall(self):
        return self.stretch(self.median("wall"))

    @property
    def spread(self):
        walls = [self.stretch(run["wall"]) for run in self.runs]
        return min(walls), max(walls)

    @property
    def note(self):
        """What the plot says beside the point."""
        lost = self.worst("lost")
        return seconds(self.wall) + (f", lost {lost / self.size:.0%} of rows" if lost and self.size else "")

    def median(self, fact):
        found = [run[fact] for run in self.runs if run.get(fact) is not None]
        return median(found) if found else None

    def worst(self, fact):
        found = [run[fact] for run in self.runs if run.get(fact) is not None]
        return max(found) if found else None

    @property
    def noise(self):
        return max(run["foreign_cpu"] for run in self.runs)


def figures(name):
    """The figures of a scenario by peer, the product first, the others from fast to slow."""
    book = store.Book(name)
    peers = list(dict.fromkeys(run["peer"] for run in book.runs if run.get("kind") != "start"))
    full = max((run.get("customers") or 0 for run in book.runs), default=0) or None
    starts = {run["peer"]: run["wall"] for run in book.runs if run.get("kind") == "start"}
    made = [Figure(peer, book.of(peer), full, starts.get(peer, 0.0)) for peer in peers if book.of(peer)]
    made.sort(key=lambda f: (f.peer != "product", f.wall))
    return {figure.peer: figure for figure in made}


def panels():
    """What the plot shows: a title each, and the figures from fast to slow."""
    shown = (
        (title, sorted(figures(name).values(), key=lambda figure: figure.wall)) for name, title in PANELS
    )
    return [(title, found) for title, found in shown if found]


def seconds(value):
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def failures(name):
    runs = [run for run in store.Book(name).runs if not run.get("fine", True)]
    return sorted({(run["peer"], "timed out" if run.get("timed_out") else "failed") for run in runs})
