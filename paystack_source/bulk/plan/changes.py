"""What the rows of an input change: the old and new value of each field, and the verdict of each row, in DuckDB.

Reads the tables of `matching`, which says whom each row means, and makes one more:

    merged    row -> metadata before and after

Whether Paystack replaces or merges `metadata` on update is not documented. The whole merged object is right in both
cases, so a plan holds that, before and after.
"""

# ruff: noqa: S608  # the names are those of the table of operations; values are never in the text of a query

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from paystack_source.bulk.operations import SUSPICIOUS
from paystack_source.bulk.plan.plan import LEFT_OUT, ROW_SCHEMA
from paystack_source.bulk.run.readback import same
from paystack_source.values import counted, is_blank, json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paystack_source.bulk.plan.matching import Matching

_BATCH: Final = 50_000
_EXAMPLES: Final = 5
_MERGED: Final = pa.schema(
    [
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("same", pa.bool_()),
        ("drifted", pa.bool_()),
    ]
)
_METADATA: Final = """
SELECT i.row, i.line, i.f_metadata, c.metadata, b.metadata, c.is_live AND b.customer_code IS NOT NULL
FROM input i LEFT JOIN who w USING (row)
LEFT JOIN current c ON c.customer_code = w.code
LEFT JOIN base b ON b.customer_code = w.code
WHERE i.f_metadata IS NOT NULL
"""
LOCKED: Final = "names are locked: the customer passed an identity check"


# -- metadata ------------------------------------------------------------------------------------------------


class NotAnObjectError(ValueError):
    """The present metadata is a list, a number or text."""


def merge_metadata(m: Matching) -> None:
    """Works out the whole object that an update leaves; null where nothing can be merged into what there is."""
    m.create("merged", _MERGED)
    if "metadata" not in m.fields:
        return
    how = "replace" if m.operation.name != "update" else "fill" if m.only_missing else m.metadata
    for batch in m.con.cursor().execute(_METADATA).to_arrow_reader(_BATCH):
        found = []
        for row, line, asked, held, copied, is_live in zip(*(c.to_pylist() for c in batch), strict=True):
            drifted = bool(is_live) and not same(_decoded(held), _decoded(copied))
            one: dict[str, object] = {"row": row, "line": line, "drifted": drifted}
            with contextlib.suppress(NotAnObjectError):
                one |= zip(("before", "after", "same"), _merged(asked, _decoded(held), how), strict=True)
            found.append(one)
        m.append("merged", pa.Table.from_pylist(found, schema=_MERGED))


def _merged(asked: str, present: object, how: str) -> tuple[str, str, bool]:
    """The JSON before and after, and whether they are the same. `asked` is a JSON object, "" to clear.

    `how`: "merge" (the row's keys win), "fill" (only keys that are missing or blank), "replace". Keys are those of the
    top level.
    """
    wanted: dict[str, Any] = msgspec.json.decode(asked) if asked else {}
    if how == "fill" and not asked:
        wanted = _object(present)  # to clear is to overwrite
    elif how != "replace" and asked:
        old = _object(present)
        if how == "fill":
            wanted = {name: value for name, value in wanted.items() if is_blank(old.get(name))}
        wanted = old | wanted
    nothing = not wanted and (is_blank(present) or present == [])
    return (
        json_text(present, ordered=True),
        json_text(wanted, ordered=True),
        nothing or same(wanted, present),
    )


def _object(present: object) -> dict[str, Any]:
    """The present metadata. Raises `NotAnObjectError`."""
    if isinstance(present, str):  # seen: an object that was stored as text
        present = _decoded(present)
    if is_blank(present) or present == []:
        return {}
    if not isinstance(present, dict):
        raise NotAnObjectError
    return present


def _decoded(text: str | None) -> object:
    """The value of stored JSON; text that is no JSON is itself."""
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return text


# -- the plan's rows -----------------------------------------------------------------------------------------


def plan_rows(m: Matching) -> Iterator[pa.RecordBatch]:
    """The plan's rows in input order, with the columns of `ROW_SCHEMA`."""
    compared = m.operation.compared
    old = _object_of(m, "c.", "m.before") if compared else "NULL"
    found = m.con.execute(f"""
SELECT ({_done(m)}) AS done, i.row, i.line, {_key(m)} AS key, w.code AS customer_code,
  coalesce(i.email, c.email) AS email,
  coalesce(i.id, c.id) AS customer_id, CASE WHEN c.customer_code IS NOT NULL THEN {old} END AS old,
  {_object_of(m, "i.f_", "m.after")} AS new, {_hints(m)} AS secrets,
  CASE WHEN i.blank THEN 'noop' WHEN d.row IS NOT NULL THEN 'duplicate'
    WHEN done THEN 'noop' ELSE 'send' END AS verdict,
  d.first AS same_as, coalesce({_drifted(m) if compared else "false"}, false) AS drifted,
  CASE WHEN l.row IS NOT NULL THEN '{LEFT_OUT}' WHEN i.blank THEN 'blank row'
    WHEN d.row IS NOT NULL THEN 'same as {m.counted_in} ' || d.first_line
    {_notes(m)} ELSE '' END AS note
FROM input i
LEFT JOIN who w USING (row)
LEFT JOIN current c ON c.customer_code = w.code
LEFT JOIN base b ON b.customer_code = w.code
LEFT JOIN merged m ON m.row = i.row
LEFT JOIN duplicates d ON d.row = i.row
LEFT JOIN left_out l ON l.row = i.row
ORDER BY i.row
""")
    return (batch.select(ROW_SCHEMA.names) for batch in found.to_arrow_reader(_BATCH))


def cleared(m: Matching) -> int:
    """How many cells clear a field."""
    cells = " + ".join(f"count(*) FILTER (f_{name} = '')" for name in m.fields)
    return int(m.one(f"SELECT {cells} FROM input")[0]) if cells else 0


def odd_texts(m: Matching) -> Iterator[str]:
    """What a person should look at of the texts that are sent, each cell for the first of the rules.

    What is not sent is never odd: the customer has it already, a repeated row, a field that is not missing.
    """
    kinds = {field: m.operation.by_column[field].kind for field in m.fields}
    parts, patterns = [], []
    new = " AND c.customer_code IS NULL" if m.operation.name == "create" else ""
    for field in (field for field, kind in kinds.items() if kind in {"name", "text"}):
        rules = SUSPICIOUS if kinds[field] == "name" else SUSPICIOUS[:-1]
        patterns += [pattern for pattern, _ in rules]
        whens = " ".join(f"WHEN regexp_matches(i.f_{field}, ?) THEN {n}" for n in range(len(rules)))
        parts.append(
            f"SELECT i.row, i.line, CASE {whens} END AS rule FROM input i LEFT JOIN who w USING (row)"
            " LEFT JOIN current c ON c.customer_code = w.code"
            f" WHERE {_wanted(m, field)} <> '' AND NOT {_unchanged(m, field)}{new}"
        )
    if not parts:
        return
    found = m.con.execute(
        f"SELECT rule, count(*), (list(line ORDER BY row))[:{_EXAMPLES}]"
        f" FROM ({' UNION ALL '.join(parts)}) ANTI JOIN left_out USING (row) ANTI JOIN duplicates USING (row)"
        " WHERE rule IS NOT NULL GROUP BY rule ORDER BY rule",
        patterns,
    )
    for rule, count, lines in found.fetchall():
        first = ", ".join(f"{m.counted_in} {line}" for line in lines)
        yield (
            f"{counted(count, 'cell', 'holds', 'hold')} {SUSPICIOUS[rule][1]} and would be sent as text; leave a cell "
            f"blank to leave the field as it is. First seen in {first}."
        )


def _key(m: Matching) -> str:
    if m.operation.name == "deactivate-authorization":
        return "''"  # the code is a secret
    return "coalesce(i.email, '')" if m.operation.name == "create" else "coalesce(w.code, i.email, '')"


def _wanted(m: Matching, field: str) -> str:
    """The value that a row sets, null for none."""
    if field == "metadata":
        return "m.after"
    return f"CASE WHEN blank(c.{field}) THEN i.f_{field} END" if m.only_missing else f"i.f_{field}"


def _json_object(pairs: list[tuple[str, str, str]]) -> str:
    """SQL for a JSON object of name and JSON value, without the pairs whose third expression is null."""
    parts = [
        f"CASE WHEN {known} IS NOT NULL THEN '\"{name}\":' || {value} END" for name, value, known in pairs
    ]
    return f"'{{' || concat_ws(',', {', '.join(parts)}) || '}}'" if parts else "'{}'"


def _object_of(m: Matching, texts: str, metadata: str) -> str:
    """The fields that the row changes, with their values from the columns that begin with `texts`.

    Where a row changes nothing: the fields that it names.
    """
    return _json_object(
        [
            (
                name,
                metadata if name == "metadata" else f"as_json({texts}{name})",
                f"CASE WHEN done OR NOT {_unchanged(m, name)} THEN {_wanted(m, name)} END",
            )
            for name in m.fields
        ]
    )


def _hints(m: Matching) -> str:
    hints = [(name, f"as_json(i.h_{name})", f"i.h_{name}") for name in m.secrets]
    return _json_object(hints) if hints else "NULL"


def _nothing(m: Matching) -> str:
    return " AND ".join(f"{_wanted(m, field)} IS NULL" for field in m.fields) or "true"


def _done(m: Matching) -> str:
    """Whether a row need not be sent."""
    if m.operation.name == "create":
        return "c.customer_code IS NOT NULL"
    if not m.operation.compared:
        return "false"
    unchanged = " AND ".join(_unchanged(m, field) for field in m.fields)
    return f"({_nothing(m)}) OR ({unchanged or 'true'})"


def _unchanged(m: Matching, field: str) -> str:
    """Whether a row leaves a field as the customer has it."""
    if not m.operation.compared:
        return "false"
    if field == "metadata":
        return "(c.customer_code IS NOT NULL AND coalesce(m.same, true))"
    return f"(c.customer_code IS NOT NULL AND ({_wanted(m, field)} IS NULL OR alike(c.{field}, i.f_{field})))"


def _notes(m: Matching) -> str:
    if m.operation.name == "create":
        return "WHEN c.customer_code IS NOT NULL THEN 'is a customer already'"
    if not m.operation.compared:
        return ""
    absent = (
        "WHEN c.customer_code IS NULL THEN 'not in the copy' WHEN NOT c.is_live AND b._missing_since IS NOT NULL "
        "THEN 'not seen at Paystack since ' || strftime(b._missing_since, '%Y-%m-%d')"
        if m.copied
        else ""
    )
    locked = f"WHEN {_locked(m)} THEN '{LOCKED}'"
    return f"WHEN {_nothing(m)} THEN 'nothing to set' WHEN done THEN 'as wanted already' {locked} {absent}"


def _locked(m: Matching) -> str:
    """Whether a row changes a name that Paystack has locked, as far as is known."""
    changed = [f"({_wanted(m, name)} IS NOT NULL AND NOT {_unchanged(m, name)})" for name in m.may_be_locked]
    return f"(c.identified AND ({' OR '.join(changed)}))" if changed else "false"


def _drifted(m: Matching) -> str:
    differs = [
        "m.drifted"
        if field == "metadata"
        else f"(i.f_{field} IS NOT NULL AND NOT alike(b.{field}, c.{field}))"
        for field in m.fields
    ]
    return f"c.is_live AND b.customer_code IS NOT NULL AND ({' OR '.join(differs) or 'false'})"
