"""Maps the columns of an input, by its header, to the columns of an operation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from paystack_source.bulk.operations import BulkOperation
from paystack_source.errors import InputError, Problem

# Names that are data, not names of columns. They are not shown, because they may be a customer's data.
_DATA: Final = re.compile(r"^\s*(CUS|AUTH)_[A-Za-z0-9]+\s*$|@.*\.|^\s*\+?\d{7,}\s*$")
_SHOWN_NAMES: Final = 12
_SHOWN_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """For each column of the operation the index of the input's column; and the ignored columns of the input."""

    columns: dict[str, int]
    ignored: list[str]
    warnings: list[str]
    mixed: int | None = None
    """The index of the identifier column, if there is only one: its cells may mix codes, emails and ids."""


def map_columns(
    operation: BulkOperation, names: list[str], *, given: Iterable[str] = (), source: str = ""
) -> ColumnMapping:
    """Find the operation's columns among the input's. Case, spaces, `_`, `-` and `.` are ignored.

    An exact name is preferred to aliases. A name that begins with `_` is never read. `given` are columns that an
    option supplies. Raises `InputError` for headers that are missing, duplicate or ambiguous.
    """
    found, problems = _find(operation, names)
    if not found and any(_DATA.search(name) for name in names):
        reason = "the first line holds data; it must name the columns"
        advice = "Put a line with the columns' names above the data (docs/bulk-input.md)."
        raise InputError([Problem(1, "", reason)], name=source or "the header", advice=advice)
    ignored = [name for index, name in enumerate(names) if index not in found.values()]
    near = _similar(operation, ignored, found)
    warnings = [f"Column {name!r} is not used; did you mean {target}?" for name, target in near.items()]
    present = {*found, *given}
    missing = [c.name for c in operation.columns if c.required and not c.default and c.name not in present]
    problems += [Problem(None, name, f"the column {name} is missing") for name in missing]
    identifiers, fields = operation.identifiers, [c.name for c in operation.fields]
    if operation.identifier_required and not present.intersection(identifiers):
        problems.append(Problem(None, "", f"a column {either(identifiers)} is missing"))
    if operation.name == "update" and not problems and not present.intersection(fields):
        problems.append(Problem(None, "", f"nothing to set: give {either(fields)}"))
    if problems:
        raise InputError(
            problems, name=source or "the header", advice=" ".join([_advice(names, missing), *warnings])
        )
    naming = [found[name] for name in identifiers if name in found]
    mixed = naming[0] if len(naming) == 1 and len(identifiers) > 1 else None
    return ColumnMapping(found, ignored, warnings, mixed)


def _normalized(name: str) -> str:
    """The name in the form that is compared; "" if it begins with `_`: we or dlt added such a column."""
    name = name.strip("\ufeff\u200b ")
    return "" if name.startswith("_") else re.sub(r"[\s_\-.]+", "", name).casefold()


def _find(operation: BulkOperation, names: list[str]) -> tuple[dict[str, int], list[Problem]]:
    compared = [_normalized(name) for name in names]
    problems = [
        Problem(None, name, "is in the header more than once")
        for name in dict.fromkeys(names)
        if _normalized(name) and compared.count(_normalized(name)) > 1
    ]
    found: dict[str, int] = {}
    for column in operation.columns:
        aliases = {_normalized(alias) for alias in column.aliases}
        exact = [index for index, name in enumerate(compared) if name == _normalized(column.name)]
        hits = exact or [index for index, name in enumerate(compared) if name in aliases]
        if hits:
            found[column.name] = hits[0]
        if len(hits) > 1 and not exact:
            both = " and ".join(repr(names[index]) for index in hits)
            reason = f"{both} may both be {column.name}; rename one of them"
            problems.append(Problem(None, column.name, reason))
    return found, problems


def _similar(operation: BulkOperation, ignored: list[str], found: dict[str, int]) -> dict[str, str]:
    """Unused input columns that resemble a column of the operation that was not found."""
    lacking = [column for column in operation.columns if column.name not in found]
    taken = {_normalized(name) for name in found}
    wanted = {_normalized(name): column.name for column in lacking for name in (column.name, *column.aliases)}
    close = {
        name: difflib.get_close_matches(_normalized(name), wanted, n=1, cutoff=0.75)
        for name in ignored
        if len(name) <= _SHOWN_LENGTH and _normalized(name) not in taken
    }
    return {name: wanted[hits[0]] for name, hits in close.items() if hits}


def _advice(names: list[str], missing: list[str]) -> str:
    """The advice for a wrong header: the columns that were found, and the option that replaces a missing one."""
    shown = [name.strip()[:_SHOWN_LENGTH] for name in names if not _DATA.search(name)][:_SHOWN_NAMES]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    advice = f"The columns are {', '.join(map(repr, shown))}{more}. " if shown else ""
    if "risk_action" in missing:
        advice += (
            "For all rows alike give --risk-action allow, deny or default (in Python risk_action=); else add"
        )
    else:
        advice += "Rename or add"
    return f"{advice} the columns (docs/bulk-input.md), which must be named in the first row, and plan again."


def either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
