"""Runs a notebook as it is committed, and tells what it showed: its outputs, its variables, what its charts hold.

A cell before the first one keeps every figure, a cell after the last one writes everything down as JSON.
"""

import fcntl
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# jsonschema would compile 38 grammars for addresses, which no notebook has: seconds for every worker.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat  # noqa: E402
from nbclient import NotebookClient  # noqa: E402
from traitlets.config import Config  # noqa: E402

from tests.events import PATIENCE  # noqa: E402
from tests.processes import python  # noqa: E402

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"

KEEP_FIGURES = """
import sys as _sys
_sys.executable = _PYTHON  # for what the notebook starts
import pandas as _pd
_pd.set_option("display.max_columns", 20)  # as in a notebook: pandas was here before there was one
import matplotlib.pyplot as _plt
_plt.draw_all = lambda: None  # after each cell, though the pictures are drawn anew when they are shown
from matplotlib_inline.config import InlineBackend as _InlineBackend
_InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None}  # else each is drawn twice
_figures, _subplots = [], _plt.subplots
def _keep(*args, **kwargs):
    made = _subplots(*args, **kwargs)
    _figures.append(made[0])
    return made
_plt.subplots = _keep
"""

WRITE_DOWN = """
import json as _json, resource as _resource
import matplotlib as _mpl, pandas as _pd
from matplotlib.colors import to_hex as _hex

def _chart(figure, axes):
    if axes is figure.axes[0]:
        figure.draw_without_rendering()
    time = isinstance(axes.xaxis.get_converter(), (_mpl.dates.DateConverter, _mpl.dates._SwitchableDateConverter))
    x = (lambda value: str(_mpl.dates.num2date(value).date())) if time else float
    box = axes.get_window_extent()
    return {
        "title": axes.get_title(), "x": axes.get_xlabel(), "y": axes.get_ylabel(), "time": time,
        "ticks": {name: [tick.get_text() for tick in getattr(axes, f"get_{name}ticklabels")()] for name in "xy"},
        "bars": [[(x(bar.get_x() + bar.get_width() / 2), bar.get_height(), bar.get_width()) for bar in group]
                 for group in axes.containers],
        "labels": [group.get_label() for group in axes.containers],
        "lines": {line.get_label(): [(x(at), float(y)) for at, y in zip(line.get_xdata(orig=False), line.get_ydata())]
                  for line in axes.lines},
        "colours": sorted({_hex(patch.get_facecolor()) for patch in axes.patches}
                          | {_hex(line.get_color()) for line in axes.lines}),
        "texts": [text.get_text() for text in axes.texts],
        "texts_over_the_top": [text.get_text() for text in axes.texts if text.get_window_extent().y1 > box.y1 + 1],
    }

def _records(frame):
    return _json.loads(frame.reset_index().to_json(orient="records", date_format="iso"))

_frames = {name: value for name, value in globals().items()
           if isinstance(value, _pd.DataFrame) and not name.startswith("_")}
_json.dump({
    "frames": {name: _records(frame) for name, frame in _frames.items()},
    "charts": [_chart(figure, axes) for figure in _figures for axes in figure.axes],
    "peak_mb": _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss // 1024,
}, open(_WHERE, "w"), default=float)
"""


@dataclass
class Shown:
    """What a run left: the notebook with its outputs, frames by variable, charts by title, the kernel's peak memory."""

    notebook: Any
    frames: dict[str, list[dict[str, Any]]]
    charts: dict[str, dict[str, Any]]
    peak_mb: int

    def text(self):
        """All that is shown as text."""
        return "\n".join(said for output in outputs(self.notebook) for said in texts(output))


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def texts(output):
    """The readable forms of an output."""
    if output.output_type == "stream":
        return [output.text]
    return [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]


@contextmanager
def one_at_a_time(folder, name, *, wait=True):
    """The tests of several workers share what is made once. Gives whether it is our turn; without `wait`, perhaps not."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def copies(folder):
    """The folder with the copies of `make_copies.py`."""
    with one_at_a_time(folder, "copies"):
        place = folder / "copies"
        if not (place / "truth.json").exists() or not (place / "large").exists():
            script = Path(__file__).with_name("make_copies.py")
            made = subprocess.run([python(), script, place], capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr[-3000:]
        return place


RUNS = [("bulk_risk_actions", ""), ("customers", "seeded"), ("customers", "large"), ("customers", "empty")]


def shown(folder, name, copy=""):
    """What the notebook shows when it is run from scratch on that copy. Raises what the notebook raises."""
    run = _take(folder, name, copy, wait=False)
    while run is None:  # another worker is at it: see to what will be needed next, and only then wait
        missing = [other for other in RUNS if not (folder / "-".join(other) / "done.ipynb").exists()]
        free = any(_take(folder, *other, wait=False) for other in missing if other != (name, copy))
        run = _take(folder, name, copy, wait=not free)
    written = json.loads((run / "written.json").read_text())
    return Shown(
        nbformat.read(run / "done.ipynb", nbformat.NO_CONVERT),
        written["frames"],
        {chart["title"]: chart for chart in written["charts"]},
        written["peak_mb"],
    )


def _take(folder, name, copy, *, wait):
    """The folder with what a run left, after running it if need be; nothing if another worker is at it."""
    run = folder / f"{name}-{copy}"
    with one_at_a_time(folder, run.name, wait=wait) as ours:
        if ours and not (run / "done.ipynb").exists():
            database = copies(folder) / copy / "paystack_customers.duckdb" if copy else ""
            _run(run, NOTEBOOKS / f"{name}.ipynb", {"PAYSTACK_COPY": str(database)})
        return run if ours else None


def _run(run, path, environment):
    run.mkdir(exist_ok=True)
    own = {
        name: str(run / name.lower())
        for name in ("DLT_DATA_DIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "TMPDIR")
    }
    Path(own["TMPDIR"]).mkdir(exist_ok=True)
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    cells = notebook.cells
    cells.insert(0, nbformat.v4.new_code_cell(f"_PYTHON = {python()!r}\n{KEEP_FIGURES}"))
    cells.append(nbformat.v4.new_code_cell(f"_WHERE = {str(run / 'written.json')!r}\n{WRITE_DOWN}"))
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        startup_timeout=PATIENCE,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        config=Config(KernelManager={"transport": "ipc", "ip": f"{own['TMPDIR']}/k"}),
    )
    client.create_kernel_manager().kernel_spec.argv[0] = python()
    client.execute(env=os.environ | own | environment | {"PAYSTACK_SANDBOX_CUSTOMERS": "600"})
    notebook.cells = cells[1:-1]
    nbformat.write(notebook, run / "done.ipynb")
