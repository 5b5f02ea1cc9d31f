"""What is made once for all tests of the notebooks, however many workers share them."""

import functools
import json
from pathlib import Path

import pytest

from tests.notebooks import running


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    return shared / "notebooks"


@pytest.fixture(scope="session")
def shown(place):
    """`shown("customers", "empty")`: the notebook, run from scratch on that copy."""
    return functools.cache(functools.partial(running.shown, place))


@pytest.fixture(scope="session")
def truth(place):
    """What the sandbox behind the copy `seeded` holds."""
    return json.loads((running.copies(place) / "truth.json").read_text())
