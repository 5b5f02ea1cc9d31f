"""What is shipped is the whole package, and it works away from the checkout."""

import json
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
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", place, wheel],
        check=True,
        capture_output=True,
    )
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (place / "lent.pth").write_text("\n".join(lent))
    return python


def test_installed_in_a_clean_environment_every_module_imports_from_there(installed, tmp_path):
    code = (
        "import importlib, pathlib, pkgutil, paystack_source as p\n"
        "names = [m.name for m in pkgutil.walk_packages(p.__path__, 'paystack_source.')]\n"
        "[importlib.import_module(name) for name in names if not name.endswith('__main__')]\n"
        "[getattr(p, name) for name in p.__all__]\n"
        "print(len(names), pathlib.Path(p.__file__).parent)"
    )
    shown = subprocess.run(
        [installed, "-I", "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    count, folder = shown.stdout.split(maxsplit=1)
    assert int(count) > 20
    assert Path(folder.strip()).is_relative_to(installed.parents[1])


def test_an_installed_package_has_its_commands(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PAYSTACK_SANDBOX_CUSTOMERS", "40")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    console = 'import sys; from paystack_source.__main__ import main; sys.argv[0] = "paystack-source"; sys.exit(main())'

    def command(*arguments):
        return subprocess.run(
            [installed, "-c", console, *arguments], check=False, capture_output=True, text=True, cwd=tmp_path
        )

    script = "from paystack_source.commands import called; print(called('bulk'))"
    told = subprocess.run([installed, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert told.stdout == "paystack-source bulk\n"
    assert command("--version").stdout.startswith("paystack-source, version ")
    listed = command().stdout
    names = ("customers", "bulk", "query", "sandbox")
    assert [name for name in names if f"  {name} " not in listed] == []
    helps = [["paystack-source", name, "--help"] for name in names]
    each = (
        f"import sys; from paystack_source.__main__ import main\nfor sys.argv in {helps}:\n    print(main())"
    )
    shown = subprocess.run([installed, "-c", each], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert [line for line in shown.stdout.splitlines() if line.isdigit()] == ["0"] * len(names)
    assert [name for name in names if f"Usage: paystack-source {name} " not in shown.stdout] == []
    copied = command("customers", "--sandbox", "--json")
    assert json.loads(copied.stdout.splitlines()[-1])["warehouse_total"] == 40, copied.stderr
    (line,) = [
        line for line in command("customers", "--sandbox").stdout.splitlines() if "paystack-source" in line
    ]
    pasted = shlex.split(line)
    assert pasted[0] == "paystack-source"
    assert command(*pasted[1:]).returncode == 0
