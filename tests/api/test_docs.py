"""`docs/errors.md` and the exit codes are in step with the errors, the client page with the client."""

import inspect
import re
from pathlib import Path

import pytest

from paystack_source import errors
from paystack_source.api.client import PaystackClient
from paystack_source.api.operations import OPERATIONS
from paystack_source.api.transport import RetryPolicy
from paystack_source.errors import ExitCode

DOCS = Path(__file__).parents[2] / "docs"
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
CLIENT = (DOCS / "client.md").read_text(encoding="utf-8")


def tree(error=errors.PaystackSourceError):
    yield error
    for child in error.__subclasses__():
        yield from tree(child)


TREE = [error for error in tree() if error.__module__ == errors.__name__]


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_each_error_has_its_row_with_exit_code_and_advice(error):
    row = re.search(rf"^\| `{error.__name__}` \| (\d+) \| [^|]* \| (.+) \|$", ERRORS, re.MULTILINE)
    assert row, f"{error.__name__} is missing in docs/errors.md"
    assert int(row[1]) == error.exit_code
    assert row[2] == error.default_advice
    assert error.exit_code in set(ExitCode)
    assert error.default_advice.endswith(".")


def test_nothing_is_documented_that_does_not_exist():
    assert set(re.findall(r"^\| `(\w+)` \| \d", ERRORS, re.MULTILINE)) == {error.__name__ for error in TREE}


def test_the_drawn_trees_are_the_tree():
    expected = [(error.__name__, len(error.__mro__)) for error in TREE]
    for text in (errors.__doc__, ERRORS.split("```text")[1].split("```")[0]):
        drawn = re.findall(r"^([\s|`├└│─-]*)(\w+)(?: {2,}|$)", text, re.MULTILINE)
        names = [name for lines, name in drawn if name in dict(expected)]
        assert names == [name for name, _ in expected]
        depths = [len(lines.rstrip("\n")) for lines, name in drawn if name in dict(expected)]
        ranks = sorted(set(depths))
        levels = sorted({depth for _, depth in expected})
        assert [ranks.index(depth) for depth in depths] == [levels.index(depth) for _, depth in expected]


def test_the_docstrings_exit_codes_are_right():
    for name, code in re.findall(r"-- (\w+) +exit (\d)", errors.__doc__):
        assert getattr(errors, name).exit_code == int(code)


def test_errors_say_all_on_one_line():
    error = errors.Rejected("update: odd", http_status=400, type="validation_error", code="invalid_params")
    assert str(error) == (
        "update: odd (HTTP 400, validation_error, invalid_params). "
        "Correct this request; sending it again as it is cannot help."
    )
    assert str(errors.ConfigError("odd.", advice="")) == "odd."


def test_the_figures_of_the_retries_are_the_policys():
    policy = RetryPolicy()
    assert f"tried {policy.attempts} times in all and for at most {policy.timeout:.0f} s" in ERRORS
    assert f"429 is tried {policy.rate_limited_attempts} times" in ERRORS.replace("\n", " ")
    assert f"up to {policy.wait_initial} s, 1 s, 2 s, … {policy.wait_max:.0f} s" in ERRORS


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_on_the_client_page_with_its_arguments(name):
    operation = OPERATIONS[name]
    row = next(line for line in CLIENT.splitlines() if line.startswith(f"| `{name}("))
    assert f"`{operation.method} {operation.template}`" in row
    arguments = set(re.findall(r"\w+", row.split("`")[1])) - {name}
    known = set(inspect.signature(getattr(PaystackClient, name)).parameters) - {"self"}
    assert arguments <= known
    assert known - arguments <= {"type", "middle_name", "value"}


def test_each_option_is_on_the_client_page():
    known = set(inspect.signature(PaystackClient).parameters) - {"clock", "random", "window"}
    table = CLIENT.split("| option |")[1].split("\n\n")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    }
    assert named == known
