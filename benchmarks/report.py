"""RESULTS.md, written from the raw results alone; nothing here measures."""

import json

import plot
import store
import texts
from figures import LABELS, failures, figures, seconds
from targets import targets

HEADINGS = ("who", "median", "min to max", "runs", "against us", "peak memory", "rows", "noise", "day")


def row(figure, base):
    low, high = figure.spread
    lost = figure.worst("lost")
    got = figure.median("distinct") if figure.median("distinct") is not None else figure.median("done")
    cells = (
        figure.label + (" \\*" if figure.scaled else ""),
        seconds(figure.wall),
        f"{seconds(low)} to {seconds(high)}",
        str(len(figure.runs)),
        f"{figure.wall / base.wall:.2f}x" if base and figure is not base else "",
        f"{figure.median('peak_mb'):,.0f} MB",
        "" if got is None else f"{got:,.0f}" + (f" (**lost {lost:,.0f}**)" if lost else ""),
        f"{figure.noise:.0%}",
        figure.runs[-1]["at"][:10],
    )
    return f"| {' | '.join(cells)} |"


def peer_table(name):
    found = figures(name)
    if not found:
        return "Not run yet.\n"
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- " + "| ---: " * (len(HEADINGS) - 1) + "|"]
    lines += [row(figure, found.get("product")) for figure in found.values()]
    if scaled := [f for f in found.values() if f.scaled]:
        lines += ["", texts.SCALED.format(size=scaled[0].size, full=scaled[0].full).rstrip()]
    if failed := failures(name):
        said = ", ".join(f"{LABELS.get(peer, peer)} ({why})" for peer, why in failed)
        lines += ["", f"Runs that did not finish: {said}."]
    return "\n".join(lines) + "\n"


def write():
    machine = json.loads((store.RESULTS / "machine.json").read_text())
    days = sorted({run["at"][:10] for name in texts.SCENARIOS for run in store.Book(name).runs})
    head = texts.HEAD.format(
        dates=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        versions=", ".join(f"{name} {number}" for name, number in machine["packages"].items()),
        **machine,
    )
    verdicts = {None: "", True: "holds", False: "**missed**"}
    rows = [f"| {t.what} | {t.measured} | {verdicts[t.holds]} |" for t in targets()]
    parts = [head + "\n".join(rows) + "\n"]
    for name, text in texts.SCENARIOS.items():
        parts += [text, peer_table(name)]
    parts.append(texts.FOOT)
    (store.RESULTS.parent / "RESULTS.md").write_text("\n".join(parts))
    plot.draw()
