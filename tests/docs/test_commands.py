"""Every command and every Python example in the documents is run, page by page, as a reader would paste them.

A page's blocks run in order in one scratch copy of the project. Where the page uses a real key, the
environment points at a local sandbox instead and the key is the sandbox's. What cannot run here carries
`<!-- not run: reason -->` above the block; those are few and counted. `# exits 3` in a block says with what
code it ends, if not with 0.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import click
import pytest

from paystack_source.sandbox import Sandbox
from tests.docs import reference
from tests.docs.markdown import ROOT, blocks, files
from tests.events import PATIENCE
from tests.processes import python

RUNNABLE = {"bash", "sh", "python"}
PAGES = [path for path in files() if any(block.language in RUNNABLE for block in blocks(path))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
MOST_NOT_RUN = 20
KEY = re.compile(r"sk_(?:live|test)_(?!sandbox)\w+")


@pytest.fixture(scope="module")
def api():
    with Sandbox(customers=60, seed=7, limit=0) as sandbox:
        yield sandbox


@pytest.fixture
def checkout(tmp_path):
    """A copy of the project as a reader has it after `git clone` and the first `make`."""
    home = tmp_path / "paystack-source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if name.startswith(("tests/", "benchmarks/")) or not (ROOT / name).is_file():
            continue
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, home / name)
    environment = home / ".venv"
    (environment / "bin").mkdir(parents=True)
    prefix = Path(sys.prefix)
    for part in ("lib", "pyvenv.cfg", *(f"bin/{program.name}" for program in (prefix / "bin").iterdir())):
        (environment / part).symlink_to(prefix / part)
    for program in ("python", "paystack-source", "activate"):
        (environment / "bin" / program).unlink()
    (environment / "bin" / "activate").write_text(f"export PATH={environment / 'bin'}:$PATH\n")
    (environment / "bin" / "python").symlink_to(python())
    script = (prefix / "bin" / "paystack-source").read_text().partition("\n")[2]
    (environment / "bin" / "paystack-source").write_text(f"#!{python()}\n{script}")
    (environment / "bin" / "paystack-source").chmod(0o755)
    for stamp in ("run.done", "dev.done", "notebook.done"):
        (environment / stamp).touch()
    return home


def environ(checkout, api):
    kept = {name: value for name, value in os.environ.items() if "PAYSTACK" not in name and "DLT" not in name}
    return {
        **kept,
        "PATH": f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
        "DLT_DATA_DIR": str(checkout / "dlt-data"),
        "HOME": str(checkout.parent),
        "MPLBACKEND": "Agg",
        "PIP_DRY_RUN": "1",  # the environment is the one that runs these tests: nothing may be installed into it
        "NO_COLOR": "1",
        "PAYSTACK_SANDBOX_CUSTOMERS": "60",
        "PAYSTACK_TRACEBACK": "1",  # so that a failure here says where it came from
        "SOURCES__PAYSTACK__BASE_URL": api.url,
        "SOURCES__PAYSTACK__SECRET_KEY": str(api.secret_key),
        "PAYSTACK_SECRET_KEY": str(api.secret_key),
    }


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_page_can_be_followed(path, checkout, api):
    env, shown = environ(checkout, api), ""
    for block in blocks(path):
        if block.is_output:
            assert_shown(block, shown)
        if block.language not in RUNNABLE or block.not_run:
            continue
        text = KEY.sub(str(api.secret_key), block.text)
        command = (
            [checkout / ".venv" / "bin" / "python", "-c", text]
            if block.language == "python"
            else ["bash", "-euo", "pipefail", "-c", text]
        )
        done = subprocess.run(
            command,
            cwd=checkout,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        expected = re.search(r"# exits (\d+)", text)
        assert done.returncode == int(expected[1] if expected else 0), (
            f"{block.where}\n{text}\n--- stdout\n{done.stdout[-3000:]}\n--- stderr\n{done.stderr[-3000:]}"
        )
        shown = done.stdout + done.stderr


def assert_shown(block, shown):
    """Each line of the page is there, in this order, but for numbers, codes, folders and what `…` stands for."""
    said = iter([without_chances(line) for line in shown.splitlines()])
    for line in block.text.splitlines():
        wanted = without_chances(line)
        if wanted and "…" not in wanted:
            assert wanted in said, f"{block.where}: {line!r} is not what is shown:\n{shown}"


def without_chances(line):
    line = re.sub(r"\b(CUS_\w+|[0-9a-f]{12}|[0-9-]+-[a-z-]+-[0-9a-f]{4,8})\b|/\S*/", "*", line)
    return " ".join(re.sub(r"[0-9][0-9.,:]*", "0", line).split())


def pasted(line, checkout, env):
    """A printed command, as somebody pastes it who answers y to whatever it asks."""
    person, terminal = os.openpty()
    command, errors = ["bash", "-euo", "pipefail", "-c", line], b""
    try:
        with (
            tempfile.TemporaryFile() as shown,
            subprocess.Popen(
                command, cwd=checkout, env=env, stdin=terminal, stdout=shown, stderr=subprocess.PIPE
            ) as run,
        ):
            limit = threading.Timer(PATIENCE, run.kill)
            limit.start()
            while part := os.read(run.stderr.fileno(), 65_536):
                errors += part
                if errors.endswith(b"[y/N] "):
                    os.write(person, b"y\n")
            code = run.wait()
            limit.cancel()
            shown.seek(0)
            return subprocess.CompletedProcess(command, code, shown.read().decode(), errors.decode())
    finally:
        os.close(person)
        os.close(terminal)


def next_lines(text):
    """The commands below each "Next"."""
    found = re.findall(r"^Next\b.*:\n((?:  .+\n?)+)", text, flags=re.MULTILINE)
    return [line.strip() for block in found for line in block.splitlines()]


@pytest.mark.parametrize(
    ("start", "number"),
    [
        ("make demo", 4),
        ("python pipelines/customers.py --sandbox --dataset paystack_ng --details", 1),
    ],
)
def test_what_a_command_prints_as_next_works_when_it_is_pasted(start, number, checkout, api):
    env = environ(checkout, api)
    before = pasted(start, checkout, env)
    assert before.returncode == 0, before.stderr
    lines = next_lines(before.stdout)
    assert len(lines) == number
    for line in lines:
        if line == "make notebook":  # it opens a browser; tests/notebooks runs what is in it
            line = "make --dry-run notebook"  # noqa: PLW2901
        done = pasted(line, checkout, env)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert not ("--sandbox" in start and "--sandbox" not in line)


REMOVES = re.compile(
    r"\b(rm|rmdir|unlink|rmtree|shred|truncate|del) +-?\w|\bdrop +(table|schema|database)\b|\bdelete +from\b"
    r"|os\.remove\b|git +clean\b",
    re.IGNORECASE,
)


def test_nothing_that_a_reader_may_paste_removes_data():
    to_paste = [(block.where, block.text) for path in files() for block in blocks(path)]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        to_paste += [(notebook.name, "".join(cell["source"])) for cell in cells]
    for name, command in reference.all_commands():
        to_paste.append((name, command.get_help(click.Context(command, info_name=name))))
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8")
    to_paste.append(("make demo", recipes.partition("\ndemo:")[2].partition("\n\n")[0]))
    for script in [*(ROOT / "pipelines").glob("*.py"), *(ROOT / "paystack_source").glob("*.py")]:
        texts = [node.value for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
                 if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
        to_paste += [(script.name, text) for text in texts]
    assert not [f"{where}: {found[0]}" for where, text in to_paste if (found := REMOVES.search(text))]


def test_what_is_not_run_is_little_and_says_why():
    excused = [
        block for path in files() for block in blocks(path) if block.language in RUNNABLE and block.not_run
    ]
    listed = "\n".join(f"{block.where}: {block.not_run}" for block in excused)
    assert len(excused) <= MOST_NOT_RUN, listed
    assert all(len(block.not_run) > 10 for block in excused), listed


def test_the_readme_runs_the_promised_commands():
    text = "\n".join(
        block.text for block in blocks(ROOT / "README.md") if block.language == "bash" and not block.not_run
    )
    for command in ("make demo", "python pipelines/customers.py", "python pipelines/bulk.py"):
        assert command in text
