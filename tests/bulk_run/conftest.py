"""A working folder with a sandbox beside it, and the command line in this process."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from paystack_source.api.client import PaystackClient
from paystack_source.bulk.input.files import open_table
from paystack_source.cli.terminal import run
from paystack_source.sandbox import Sandbox

COPY, STATE = "paystack_customers.duckdb", "sandbox.sqlite"
ROOT = Path(__file__).parents[2]


def load_script(name: str) -> Any:
    """`pipelines/NAME.py` as a module."""
    spec = importlib.util.spec_from_file_location(f"pipelines_{name}", ROOT / "pipelines" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Said:
    """What a command ended with."""

    code: int
    json: dict[str, Any]
    out: str
    err: str


@dataclass
class Desk:
    """The operator's working folder."""

    folder: Path
    api: Any
    capsys: Any
    script: Any

    def bulk(self, *args: object, copy: bool = False) -> Said:
        """`python pipelines/bulk.py ARGS --json`, in this process."""
        more = [] if copy or args[0] == "review" else ["--no-copy"]
        self.capsys.readouterr()
        code = run(self.script.main, [*map(str, args), *more, "--json"])
        out, err = self.capsys.readouterr()
        last = out.strip().splitlines()[-1] if out.strip() else "{}"
        return Said(code, json.loads(last), out, err)

    def csv(self, name: str, rows: list[dict[str, Any]]) -> Path:
        """A CSV with these rows."""
        path = self.folder / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def customers(self, number: int = 10) -> list[dict[str, Any]]:
        """The first customers that the sandbox holds."""
        found = []
        for customer in self.api.customers_truth():
            found.append(customer)
            if len(found) == number:
                break
        return found

    def risk_file(self, number: int = 10, *, extra: int = 0, name: str = "customers.csv") -> Path:
        """Customers with risk action default, and some that do not exist."""
        for customer in self.customers(number):
            self.api.edit_customer(customer["customer_code"], risk_action="default")
        return self.listed(number, extra=extra, name=name)

    def listed(self, number: int, *, extra: int = 0, name: str = "customers.csv") -> Path:
        """Customers as they are, and some that do not exist."""
        rows = [{"customer_code": c["customer_code"], "note": "+234 kept"} for c in self.customers(number)]
        rows += [{"customer_code": f"CUS_nosuchone{n}", "note": "=1+1"} for n in range(extra)]
        return self.csv(name, rows)

    def truth(self, code: str) -> dict[str, Any]:
        return self.api.customer_truth(code)

    def results(self, said: Said, name: str = "results_file") -> list[dict[str, str]]:
        """A result file, read back the way `bulk.py` reads its input."""
        table = open_table(said.json[name])
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows()]

    def client(self, **options: Any) -> PaystackClient:
        return PaystackClient(self.api.secret_key, base_url=self.api.url, quota=0, **options)

    def take_copy(self, kept: Path) -> None:
        """The copy and dlt's folder that were made at another desk, as if they had been made here."""
        shutil.copy(kept / COPY, self.folder)
        shutil.copytree(kept / "dlt", self.folder / "dlt", ignore=shutil.ignore_patterns("trace.pickle"))
        for path in (self.folder / "dlt").rglob("*"):
            if path.is_file() and str(kept) in (text := path.read_text(encoding="utf-8")):
                path.write_text(text.replace(str(kept), str(self.folder)), encoding="utf-8")


def sit_down(folder: Path, api: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings and the working folder of an operator."""
    monkeypatch.chdir(folder)
    for name in ("PAYSTACK_SECRET_KEY", "DESTINATION__DUCKDB__CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DLT_DATA_DIR", str(folder / "dlt"))
    monkeypatch.setenv("SOURCES__PAYSTACK__SECRET_KEY", api.secret_key)
    monkeypatch.setenv("SOURCES__PAYSTACK__BASE_URL", api.url)
    monkeypatch.setenv("SOURCES__PAYSTACK__QUOTA", "0")


@pytest.fixture
def desk(tmp_path, monkeypatch, sandbox, capsys):
    """The operator at work: 60 customers, no quota."""
    api = sandbox(customers=60)
    sit_down(tmp_path, api, monkeypatch)
    return Desk(tmp_path, api, capsys, load_script("bulk"))


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """A desk's folder after its first copy, and the state of its sandbox, where the first 20 are neither allowed nor denied.

    To be taken again and again: a copy takes half a second.
    """
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch, Sandbox(60, limit=0, state=folder / STATE) as api:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        sit_down(folder, api, patch)
        Desk(folder, api, None, None).risk_file(20)
        assert run(load_script("customers").main, ["--quiet"]) == 0
    return folder


@pytest.fixture
def seated(tmp_path, monkeypatch, sandbox, capsys, kept):
    """A desk before the customers of `kept`, without their copy."""
    shutil.copy(kept / STATE, tmp_path.parent / f"{tmp_path.name}.sqlite")
    api = sandbox(state=tmp_path.parent / f"{tmp_path.name}.sqlite")
    sit_down(tmp_path, api, monkeypatch)
    return Desk(tmp_path, api, capsys, load_script("bulk"))


@pytest.fixture
def copied(seated, kept):
    """A desk with a copy of its customers."""
    seated.take_copy(kept)
    return seated
