"""What is shipped is the whole package, and it works away from the checkout."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(folder):
    # The pinned build backend, called directly: nothing is fetched.
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built):
    return next(path for name, path in built.items() if name.endswith(".whl"))


def test_built_twice_wheel_and_sdist_are_the_same_bytes(built, tmp_path):
    again = build(tmp_path)
    assert len(built) == 2
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in built.items()
    }


def test_the_wheel_carries_every_module_and_nothing_else(wheel):
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "paystack_source"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert shipped == {name for name in listed if (ROOT / name).exists()}
    assert "paystack_source/py.typed" in shipped


def test_the_wheel_names_no_address_but_those_of_what_it_works_with(wheel):
    with zipfile.ZipFile(wheel) as parts:
        (about,) = [parts.read(name).decode() for name in parts.namelist() if name.endswith("/METADATA")]
    addresses = re.findall(r"^Project-URL: .*, (https://[^/]+)/", about, re.MULTILINE)
    assert sorted(addresses) == ["https://dlthub.com", "https://paystack.com"]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The Python of an environment with the wheel; the dependencies are lent by the one that runs this test."""
    environment = tmp_path_factory.mktemp("installed") / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    place = next((environment / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(place)  # which is what an installer does
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (place / "lent.pth").write_text("\n".join(lent))
    return python


COMMANDS = ("customers", "bulk", "query", "sandbox")
LOOK = f"""
import contextlib, importlib, io, json, pathlib, pkgutil, shlex, sys
import paystack_source as p
from paystack_source.__main__ import main
from paystack_source.commands import called

def said(*words):
    sys.argv = ["paystack-source", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(talk):
        assert main() == 0, talk.getvalue()
    return out.getvalue()

talk = io.StringIO()
found = {{"called": called("bulk"), "version": said("--version"), "listed": said()}}
found["copied"] = said("customers", "--sandbox", "--json")
(found["next"],) = [line for line in talk.getvalue().splitlines() if "paystack-source" in line]
found["pasted"] = said(*shlex.split(found["next"])[1:])
found["helps"] = {{name: said(name, "--help") for name in {COMMANDS}}}
names = [m.name for m in pkgutil.walk_packages(p.__path__, "paystack_source.")]
[importlib.import_module(name) for name in names if not name.endswith("__main__")]
[getattr(p, name) for name in p.__all__]
print(json.dumps(found | {{"modules": len(names), "folder": str(pathlib.Path(p.__file__).parent)}}))
"""


@pytest.fixture(scope="module")
def found(installed, tmp_path_factory):
    """What the installed package says in one process, away from the checkout, and does in the sandbox."""
    away = tmp_path_factory.mktemp("away")
    ours = {"PAYSTACK_SANDBOX_CUSTOMERS": "40", "DLT_DATA_DIR": str(away / "dlt")}
    shown = subprocess.run(
        [installed, "-I", "-c", LOOK], env=os.environ | ours,
        check=False, capture_output=True, text=True, cwd=away,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_installed_in_a_clean_environment_every_module_imports_from_there(installed, found):
    assert found["modules"] > 20
    assert Path(found["folder"]).is_relative_to(installed.parents[1])


def test_an_installed_package_has_its_commands(found):
    assert found["called"] == "paystack-source bulk"
    assert found["version"].startswith("paystack-source, version ")
    assert [name for name in COMMANDS if f"  {name} " not in found["listed"]] == []
    helps = found["helps"]
    assert [name for name in COMMANDS if f"Usage: paystack-source {name} " not in helps[name]] == []
    assert json.loads(found["copied"].splitlines()[-1])["warehouse_total"] == 40
    assert shlex.split(found["next"])[0] == "paystack-source"
    assert "risk_action" in found["pasted"]
