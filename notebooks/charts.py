"""How the notebooks ask and show: small frames out of DuckDB, numbers for people, one look for all charts."""

import os
import warnings
from collections.abc import Callable

import duckdb
import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import pandas as pd
from copies import ROOT, find_copy
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Okabe and Ito's colours: told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
RISK_COLOURS = {"default": GREY, "allow": BLUE, "deny": ORANGE}

plt.rcParams.update(
    {
        "figure.figsize": (10, 3.4),
        "figure.autolayout": True,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.parse_math": False,
    }
)
warnings.filterwarnings("ignore", message="Glyph .* missing")  # names come in every script, fonts do not
_thousands = FuncFormatter(lambda value, _: f"{value:,.0f}")


def open_copy(time_zone: str, dataset: str) -> tuple[duckdb.DuckDBPyConnection, set[str]]:
    """The copy that `find_copy` finds, read-only, and the names of the dataset's tables.

    Times are shown in `time_zone`. The working folder becomes the repository: what is saved is where the commands look.
    """
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    db = duckdb.connect(str(find_copy().resolve()), read_only=True)
    os.chdir(ROOT)
    db.execute(f"SET TimeZone = '{time_zone}'; SET memory_limit = '1GB'")
    names = db.execute("select table_name from duckdb_tables() where schema_name = ?", [dataset]).fetchall()
    return db, {name for (name,) in names}


def asking(db: duckdb.DuckDBPyConnection) -> Callable[[str], pd.DataFrame]:
    """A function that answers SQL with a frame."""
    return lambda sql: db.sql(sql).to_arrow_table().to_pandas()


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame for people: 1,234,567 and minutes."""
    forms = {"i": "{:,}", "u": "{:,}", "f": "{:,.0f}", "M": "{:%Y-%m-%d %H:%M}"}
    return pd.DataFrame(
        {
            name: [
                "" if missing else forms.get(column.dtype.kind, "{}").format(value)
                for value, missing in zip(column, column.isna(), strict=True)
            ]
            for name, column in frame.items()
        }
    )


def finish(axes: plt.Axes, title: str, x: str, y: str, *, count: str = "y") -> None:
    """Title, labels, whole and readable numbers on the axis that counts, few and short dates."""
    axes.set(title=title, xlabel=x, ylabel=y)
    if not axes.patches and not axes.lines:
        axes.text(0.5, 0.5, "no customers yet", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    if count:
        counting = getattr(axes, f"{count}axis")
        counting.set_major_locator(MaxNLocator(6, integer=True))
        counting.set_major_formatter(_thousands)
    if isinstance(axes.xaxis.get_major_locator(), mdates.AutoDateLocator):
        axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
