"""Which input column feeds which column of an operation, with suggestions for near misses: pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from paystack_source.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paystack_source.bulk.operations import Operation

# What no column is called; it is not shown, because it may be a customer's.
_DATA: Final = re.compile(r"^\s*(CUS|AUTH)_[A-Za-z0-9]+\s*$|@.*\.|^\s*\+?\d{7,}\s*$")
_SHOWN: Final = 12
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Match:
    """Which input column feeds which column of the operation (by position), and which feed none."""

    columns: dict[str, int]
    ignored: list[str]
    warnings: list[str]


def _plain(name: str) -> str:
    """The name as it is compared; "" if it begins with `_`: we or dlt added that column, it is no customer's."""
    name = name.strip("\ufeff\u200b ")
    return "" if name.startswith("_") else re.sub(r"[\s_\-.]+", "", name).casefold()


def match_columns(
    operation: Operation, names: list[str], *, given: Iterable[str] = (), source: str = ""
) -> Match:
    """Finds the operation's columns among the input's; case, spaces, `_` and `-` do not matter.

    The exact name wins over its aliases. A name that begins with `_` is never read.

    `given` are columns that an option supplies. Raises `InputError` for headers that are missing, doubled or
    ambiguous.
    """
    if any(_DATA.search(name) for name in names):
        said = "the first line holds data; it must name the columns"
        advice = "Put a line with the columns' names above the data (docs/bulk-input.md)."
        raise InputError([Problem(1, "", said)], name=source or "the header", advice=advice)
    found, problems = _find(operation, names)
    ignored = [name for index, name in enumerate(names) if index not in found.values()]
    near = _near(operation, ignored, found)
    missing = [
        c.name
        for c in operation.columns
        if c.required and not c.default and c.name not in found and c.name not in given
    ]
    problems += [Problem(None, name, f"the column {name} is missing{_hint(near, name)}") for name in missing]
    named = [name for name in operation.identifiers if name in found]
    if operation.identifier_required and not named and not missing:
        hints = "".join(_hint(near, name) for name in operation.identifiers)
        problems.append(Problem(None, "", f"a column {either(operation.identifiers)} is missing{hints}"))
    fields = [c.name for c in operation.fields]
    if (
        not problems
        and not any(name in found or name in given for name in fields)
        and operation.name == "update"
    ):
        hints = "".join(_hint(near, name) for name in fields)
        problems.append(Problem(None, "", f"nothing to set: give {either(fields)}{hints}"))
    if problems:
        raise InputError(problems, name=source or "the header", advice=_advice(names, missing))
    warnings = [f"Column {name!r} is not used; did you mean {target}?" for name, target in near.items()]
    return Match(found, ignored, warnings)


def _advice(names: list[str], missing: list[str]) -> str:
    """What to do about a header: the columns that are there, and the option that stands in for one."""
    seen = ", ".join(repr(name.strip()[:_LONGEST]) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    advice = f"The columns are {seen}{more}. " if names else ""
    if "risk_action" in missing:
        advice += "For all rows alike give --risk-action allow, deny or default; else add"
    else:
        advice += "Rename or add"
    return f"{advice} the columns (docs/bulk-input.md) and plan again."


def _find(operation: Operation, names: list[str]) -> tuple[dict[str, int], list[Problem]]:
    problems = [
        Problem(None, name, "stands in the header more than once")
        for name in dict.fromkeys(names)
        if _plain(name) and sum(_plain(other) == _plain(name) for other in names) > 1
    ]
    plain = [_plain(name) for name in names]
    found: dict[str, int] = {}
    for column in operation.columns:
        if _plain(column.name) in plain:
            found[column.name] = plain.index(_plain(column.name))
            continue
        hits = [
            index for index, name in enumerate(plain) if name in {_plain(alias) for alias in column.aliases}
        ]
        if len(hits) > 1:
            both = " and ".join(repr(names[index]) for index in hits)
            problems.append(
                Problem(None, column.name, f"{both} may both be {column.name}; rename one of them")
            )
        elif hits:
            found[column.name] = hits[0]
    return found, problems


def _near(operation: Operation, ignored: list[str], found: dict[str, int]) -> dict[str, str]:
    """Unused input columns that look like a column of the operation that was not found."""
    known = {
        _plain(n): c.name for c in operation.columns if c.name not in found for n in (c.name, *c.aliases)
    }
    near = {}
    for name in ignored:
        close = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.75)
        if close:
            near[name] = known[close[0]]
    return near


def _hint(near: dict[str, str], wanted: str) -> str:
    return "".join(
        f"; {name!r}? did you mean {wanted!r}" for name, target in near.items() if target == wanted
    )


def either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
