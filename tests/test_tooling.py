"""The way in: make, the environment script, pinned requirements, what git may not hold."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.processes import python

ROOT = Path(__file__).parent.parent


def fake_python(folder, name, version, *, venv=True):
    """A `python3` of some version that answers the questions of .ci/venv and makes nothing."""
    script = folder / name
    fits = 0 if (3, 11) <= version < (3, 15) else 1
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"  *version_info*) exit {fits};;\n"
        f"  *ensurepip*) exit {0 if venv else 1};;\n"
        f"  -V) echo Python {version[0]}.{version[1]}.0;;\n"
        f'  "-m venv"*) mkdir -p "$3" && echo {name} > "$3/made-by";;\n'
        "esac\n"
    )
    script.chmod(0o755)


def make_environment(folder, **environ):
    path = f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin"
    return subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "venv", folder / "env"],
        env={"PATH": path, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_fits_is_found_though_python3_is_too_old(tmp_path):
    fake_python(tmp_path, "python3", (3, 9))
    fake_python(tmp_path, "python3.13", (3, 13))
    done = make_environment(tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "env" / "made-by").read_text() == "python3.13\n"
    assert "about a minute" in done.stderr


def test_every_planted_bug_has_its_place():
    """A bug whose text is gone, or is there twice, has to move along with the code."""
    command = [sys.executable, ROOT / "tests" / "planted_bugs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_python_that_fits_is_said_with_what_to_do(tmp_path):
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        fake_python(tmp_path, name, (3, 9))
    done = make_environment(tmp_path)
    assert done.returncode == 1
    assert "3.11, 3.12, 3.13 or 3.14" in done.stderr
    assert "Python 3.9.0" in done.stderr
    assert not (tmp_path / "env").exists()


def test_a_missing_venv_module_is_named_with_the_package_to_install(tmp_path):
    fake_python(tmp_path, "python3", (3, 12), venv=False)
    done = make_environment(tmp_path)
    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_python_can_be_chosen(tmp_path):
    fake_python(tmp_path, "python3", (3, 11))
    fake_python(tmp_path, "mine", (3, 12))
    assert make_environment(tmp_path, PYTHON=str(tmp_path / "mine")).returncode == 0
    assert (tmp_path / "env" / "made-by").read_text() == "mine\n"


def test_every_target_of_make_is_listed_and_can_be_planned():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)[1].split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in targets:
        assert f"make {target} " in shown
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_ci_ends_with_the_tests_so_that_their_closing_line_is_the_last():
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.strip()]
    assert lines[-1] == "make test"
    assert "make check" in lines
    assert "set -euo pipefail" in lines
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("name", ["run.txt", "notebook.txt", "dev.txt"])
def test_requirements_are_pinned_with_hashes_and_name_no_index(name):
    text = (ROOT / "requirements" / name).read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|file:", text)
    packages = re.findall(r"^([\w.-]+)(\[[\w,]+\])?==\S+.*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    entries = re.split(r"^(?=[\w.-]+(?:\[[\w,]+\])?==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(packages) > 40
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_pinned_requirements_hold_every_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (ROOT / "requirements" / "run.txt").read_text()
    for requirement in project["dependencies"] + project["optional-dependencies"]["sandbox"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        assert re.search(rf"^{re.escape(name)}(\[[\w,]+\])?==", pinned, flags=re.MULTILINE), name


def test_excel_is_in_every_install():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(requirement.startswith("python-calamine") for requirement in project["dependencies"])
    assert "excel" not in project["optional-dependencies"]


def test_make_notebook_installs_what_notebooks_need_and_no_test_tools():
    text = (ROOT / "requirements" / "notebook.txt").read_text()
    pinned = set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", text, flags=re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {re.match(r"[\w.-]+", line)[0] for name in ("sandbox", "notebook") for line in extras[name]}
    assert named <= pinned
    assert not pinned & {"pytest", "hypothesis", "schemathesis", "playwright", "mypy", "ruff", "uv"}
    recipe = subprocess.run(
        ["make", "-n", "-W", "requirements/notebook.txt", "-o", ".venv/run.done", "notebook"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "--require-hashes -r requirements/notebook.txt" in recipe
    assert "dev.txt" not in recipe


@pytest.mark.parametrize(
    "name",
    [
        ".dlt/secrets.toml",
        ".env",
        "paystack_customers.duckdb",
        "paystack_customers.duckdb.wal",
        "paystack_sandbox.sqlite",
        "paystack_sandbox.sqlite-wal",
        "allow.plan",
        "results/x.csv",
        "paystack_results/.plans/x",
        "paystack_sandbox.duckdb",
        "paystack_results_sandbox/.plans/x",
        ".venv/bin/python",
    ],
)
def test_git_ignores_what_must_never_be_committed(name):
    assert subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == 0


def test_commands_fork_from_a_process_that_has_imported_what_they_need():
    """A formatter took the imports away once, as nothing seemed to use them."""
    code = "import sys; print(sorted({'dlt', 'duckdb', 'pandas'} & sys.modules.keys()))"
    said = subprocess.run([python(), "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "['dlt', 'duckdb', 'pandas']\n"
