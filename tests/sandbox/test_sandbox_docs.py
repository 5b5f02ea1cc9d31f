"""docs/sandbox.md says what there is: every switch with its default, every fault with its effect."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

import pytest

from paystack_source.sandbox import SandboxConfig
from paystack_source.sandbox.faults import ENDPOINTS, KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
FIELDS = {entry.name: entry for entry in dataclasses.fields(SandboxConfig)}


def table(heading):
    """First cells of the rows of every table whose first column has this heading."""
    found, inside = {}, False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == heading:
            inside = True
        elif inside and not set(cells[0]) <= set("- "):
            found[cells[0].strip("`")] = [cell.strip("`") for cell in cells[1:]]
    return found


def test_every_switch_is_documented_and_no_other():
    assert set(table("switch")) == set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_documented_defaults_are_the_defaults(name):
    default = FIELDS[name].default
    expected = "time.time" if default is time.time else str(default)
    assert table("switch")[name][0] == expected


def test_every_fault_is_documented_with_its_effect():
    assert {name: cells[0] == "yes" for name, cells in table("fault").items()} == {
        kind: after for kind, (after, _) in KINDS.items()
    }


def test_every_endpoint_can_be_named():
    named = set(re.findall(r"`([a-z_]+)`", PAGE[PAGE.index("## Faults") :]))
    assert named >= ENDPOINTS


def test_every_choice_of_a_switch_is_named():
    for name, hint in SandboxConfig.__annotations__.items():
        for choice in re.findall(r'"([a-z_0-9]+)"', str(hint)):
            row = " ".join(table("switch")[name])
            assert choice in row, (name, choice)
