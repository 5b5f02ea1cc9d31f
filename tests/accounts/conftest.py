"""Three accounts, each a sandbox with a number and a key of its own, named in the environment as a user would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from paystack_source.cli.terminal import run
from tests.bulk_run.conftest import load_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.sandbox import Sandbox

NUMBERS = {"gh": (101, 30), "ke": (102, 40), "ng": (103, 50)}
"""By name: the integration, and how many customers it has."""


@dataclass
class Ended:
    """What a command ended with."""

    code: int
    json: dict[str, Any]
    out: str
    err: str = field(repr=False)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, and no key but those that a test sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    for name in ("PAYSTACK_SECRET_KEY", "SOURCES__PAYSTACK__SECRET_KEY", "SOURCES__PAYSTACK__BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def variable(name: str, setting: str) -> str:
    return f"SOURCES__PAYSTACK__ACCOUNTS__{name.upper()}__{setting}"


@pytest.fixture
def accounts(sandbox, monkeypatch) -> dict[str, Sandbox]:
    """Each takes its own key, and refuses those of the others."""
    found = {}
    for name, (number, customers) in NUMBERS.items():
        found[name] = sandbox(
            customers, integration=number, seed=number, secret_keys=(f"sk_test_key_{name}",)
        )
        monkeypatch.setenv(variable(name, "SECRET_KEY"), f"sk_test_key_{name}")
        monkeypatch.setenv(variable(name, "BASE_URL"), found[name].url)
    return found


@pytest.fixture
def command(capsys) -> Callable[..., Ended]:
    """`command("customers", "--account", "ng")`: the command with --json, in this process."""

    def call(name: str, *arguments: str) -> Ended:
        capsys.readouterr()
        code = run(load_script(name).main, [*arguments, "--json"])
        out, err = capsys.readouterr()
        return Ended(code, json.loads(out.splitlines()[-1]) if out else {}, out, err)

    return call
