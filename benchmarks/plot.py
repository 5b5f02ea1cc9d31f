"""The plot: what copying and changing customers takes, peer by peer."""

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams |= {"svg.hashsalt": "paystack-source", "svg.fonttype": "none", "font.size": 9}

import matplotlib.pyplot as plt  # noqa: E402  # the settings above come first
import store  # noqa: E402
from figures import panels  # noqa: E402

# Okabe and Ito's palette: colour-blind readers tell them apart too.
OURS, THEIRS, FLOOR = "#0072B2", "#999999", "#E69F00"


def draw():
    drawn = panels()
    if not drawn:
        return
    picture, axes = plt.subplots(1, len(drawn), figsize=(5.2 * len(drawn), 3.2), squeeze=False)
    for axis, (title, shown) in zip(axes[0], drawn, strict=True):
        for place, figure in enumerate(shown):
            colour = OURS if figure.peer == "product" else FLOOR if figure.peer == "floor" else THEIRS
            low, high = figure.spread
            axis.errorbar(
                figure.wall, place, xerr=[[figure.wall - low], [high - figure.wall]], fmt="o", markersize=8,
                color=colour, markerfacecolor="white" if figure.scaled else colour, ecolor="#333333", elinewidth=1,
            )  # fmt: skip
            axis.annotate(
                figure.note, (max(high, figure.wall), place), (8, 0), textcoords="offset points", va="center"
            )
        axis.set_yticks(range(len(shown)), [figure.label for figure in shown])
        axis.set_xscale("log")
        walls = [wall for figure in shown for wall in figure.spread]
        axis.set_xlim(min(walls) / 1.6, max(walls) * 12)
        axis.set_ylim(len(shown) - 0.4, -0.6)
        axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("seconds, log scale (median; whisker: min to max)")
        axis.spines[["top", "right"]].set_visible(False)
    if any(figure.scaled for _, shown in drawn for figure in shown):
        picture.text(0.995, 0.01, "hollow: scaled from 100,000 customers", ha="right", fontsize=8)
    picture.tight_layout()
    picture.savefig(store.RESULTS / "plot.svg", metadata={"Date": None})
    plt.close(picture)
