"""The notebooks as they are committed: shown with outputs on a code host, and without anything private in them."""

import base64
import itertools
import json
import os
import re
import subprocess

import nbformat
import pytest

from tests.notebooks import running
from tests.processes import python

NAMES = ["bulk_risk_actions", "customers"]
PRIVATE = {
    "a key": r"[sp]k_(test|live)_",
    "a path of some machine": r"/(work|tmp|root|home|Users|private|var|opt|usr|builds)/|[A-Z]:\\\\",
    "an address that somebody may have": r"@(?!(\w+\.)?example\.(com|org|net)\b)[\w-]+\.[\w.]+",
    "a port of some machine": r"127\.0\.0\.1|localhost",
}


@pytest.fixture(params=NAMES)
def committed(request):
    return nbformat.read(running.NOTEBOOKS / f"{request.param}.ipynb", nbformat.NO_CONVERT)


@pytest.mark.parametrize("what", PRIVATE)
def test_nothing_private_is_in_it(committed, what):
    pictures = [output.data.pop("image/png", "") for output in running.outputs(committed) if "data" in output]
    text = json.dumps(committed, ensure_ascii=False)
    assert not re.search(PRIVATE[what], text), re.search(PRIVATE[what], text)
    for picture in pictures:
        # A picture's own texts (who made it, when, where) stand before its pixels.
        head = base64.b64decode(picture).partition(b"IDAT")[0].decode("latin-1")
        assert not re.search(PRIVATE[what], head.replace("https://matplotlib.org/", ""))


def test_every_cell_was_run_once_from_top_to_bottom(committed):
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(cell.metadata for cell in committed.cells)  # not even when


def test_no_error_and_no_warning_is_in_it(committed):
    assert not [output for output in running.outputs(committed) if output.output_type == "error"]
    assert not [output for output in running.outputs(committed) if output.get("name") == "stderr"]


@pytest.mark.parametrize(("name", "copy"), [("bulk_risk_actions", ""), ("customers", "seeded")])
def test_its_outputs_are_those_of_its_cells(shown, name, copy):
    """Run again, every cell shows the same kinds of things, and tables with the same columns."""

    def kinds(cell):
        found = []
        for output in cell.get("outputs", []):
            columns = [
                re.findall(r"<th>([^<]*)</th>", said.partition("</thead>")[0])
                for said in running.texts(output)
            ]
            found.append((output.output_type, sorted(output.get("data", {})), columns))
        # The kernel sends what was printed whenever it has time: a busy one in two parts.
        return [kind for kind, _ in itertools.groupby(found)]

    committed = nbformat.read(running.NOTEBOOKS / f"{name}.ipynb", nbformat.NO_CONVERT)
    again = shown(name, copy).notebook
    for cell, same in zip(committed.cells, again.cells, strict=True):
        assert kinds(cell) == kinds(same), cell.source


def test_pictures_and_tables_are_there(committed):
    data = [output.get("data", {}) for output in running.outputs(committed)]
    assert sum("text/html" in each for each in data) >= 8
    if "Who are our" in committed.cells[0].source:
        assert sum("image/png" in each for each in data) >= 8


def test_links_between_documents_lead_somewhere(committed):
    for cell in committed.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source):
                assert (running.NOTEBOOKS / target).resolve().exists(), target


def test_the_copy_is_found_where_it_is(tmp_path):
    """`PAYSTACK_COPY`, then this folder, then the one above."""
    (tmp_path / "paystack_customers.duckdb").touch()
    (tmp_path / "notebooks").mkdir()
    found = [
        subprocess.run(
            [python(), "-c", "from copies import find_copy; print(find_copy())"],
            cwd=tmp_path / "notebooks",
            env={"PYTHONPATH": str(running.NOTEBOOKS), "PATH": "/usr/bin:/bin"} | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for more in ({}, {"PAYSTACK_COPY": "elsewhere.duckdb"})
    ]
    assert found == ["../paystack_customers.duckdb", "elsewhere.duckdb"]


def test_one_command_opens_them():
    """For root too, whom Jupyter refuses unless told otherwise: containers have no other user."""
    command = subprocess.run(
        ["make", "-n", "notebook"], cwd=running.ROOT, capture_output=True, text=True, check=True
    ).stdout
    opened = re.search(r"jupyter lab (\S+)", command)[1]
    assert (running.ROOT / opened).is_file()
    assert ("--allow-root" in command) == (os.geteuid() == 0)
