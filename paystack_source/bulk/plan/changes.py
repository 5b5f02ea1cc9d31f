"""Computes in DuckDB the old and new value of each field, and the verdict of each row.

It reads the tables of `matching`, which finds the customer of each row, and creates one more:

    merged    row -> metadata before and after

Whether Paystack replaces or merges `metadata` on update is not documented. The whole merged object is right in both
cases, so a plan has the whole object before and after.
"""

# ruff: noqa: S608  # names come from the table of operations; queries contain no values

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from paystack_source.bulk.input.patterns import ODD_EMAIL, SUSPICIOUS
from paystack_source.bulk.plan.matching import Matching
from paystack_source.bulk.plan.plan import LEFT_OUT
from paystack_source.bulk.plan.tally import BLANK_ROW
from paystack_source.bulk.run.readback import same
from paystack_source.values import counted, is_blank, json_text, quoted_text

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
FROM input i LEFT JOIN matched w USING (row)
LEFT JOIN current c ON c.customer_code = w.code
LEFT JOIN base b ON b.customer_code = w.code
WHERE i.f_metadata IS NOT NULL
"""
_NO_PLUS: Final = "the phone at Paystack without its + or 00 in front, as spreadsheets write it,"
LOCKED: Final = "names are locked: the customer passed an identity check"


# -- metadata ------------------------------------------------------------------------------------------------


def merge_metadata(m: Matching) -> None:
    """Compute the whole metadata after the update; null if the present metadata is not an object."""
    m.create("merged", _MERGED)
    if "metadata" not in m.fields:
        return
    how = "replace" if m.operation.name != "update" else "fill" if m.only_missing else m.metadata
    for batch in m.con.cursor().execute(_METADATA).to_arrow_reader(_BATCH):
        found = []
        for row, line, asked, present, copied, is_live in zip(*(c.to_pylist() for c in batch), strict=True):
            drifted = bool(is_live) and not same(_decoded(present), _decoded(copied))
            merged = row, line, *_merged(asked, _decoded(present), how), drifted
            found.append(dict(zip(_MERGED.names, merged, strict=True)))
        m.append("merged", pa.Table.from_pylist(found, schema=_MERGED))


def _merged(asked: str, present: object, how: str) -> tuple[str | None, str | None, bool | None]:
    """The JSON before and after, and whether they are the same; nulls if `present` cannot be merged.

    `asked` is a JSON object, or "" to clear. `how`: "merge" (the row's keys replace others), "fill" (only missing or
    blank keys, and nothing is cleared), "replace". Only keys of the top level count.
    """
    wanted: dict[str, Any] = msgspec.json.decode(asked) if asked else {}
    if how == "fill" or (how == "merge" and asked):
        old = _object(present)
        if old is None:
            return None, None, None
        if how == "fill":
            wanted = {name: value for name, value in wanted.items() if is_blank(old.get(name))}
        wanted = old | wanted
    nothing = not wanted and (is_blank(present) or present == [])
    return (
        json_text(present, ordered=True),
        json_text(wanted, ordered=True),
        nothing or same(wanted, present),
    )


def _object(present: object) -> dict[str, Any] | None:
    """The present metadata; None if it is a list, a number or text."""
    if isinstance(present, str):  # some accounts have objects that were stored as text
        present = _decoded(present)
    if is_blank(present) or present == []:
        return {}
    return present if isinstance(present, dict) else None


def _decoded(text: str | None) -> object:
    """The value of stored JSON. Text that is not JSON is returned unchanged."""
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return text


# -- the plan's rows -----------------------------------------------------------------------------------------

# For each field: the value that the row sets (`w_…`), whether the customer has it already (`s_…`), and the customer's
# value (`c_…`). The last three tables are empty in most plans; joining them costs nothing then.
_COMPARED: Final = """
CREATE VIEW compared AS
SELECT i.*, w.code AS matched_code, c.customer_code IS NOT NULL AS known, c.email AS held_email, c.id AS held_id,
  c.is_live, b.customer_code IS NOT NULL AS copied, b._missing_since, {locked} AS identified,
  m.before, m.after, d.first, d.first_line, l.row IS NOT NULL AS left_out, {drifted} AS has_drifted{fields}
FROM input i
LEFT JOIN matched w USING (row)
LEFT JOIN current c ON c.customer_code = w.code
LEFT JOIN base b ON b.customer_code = w.code
LEFT JOIN merged m ON m.row = i.row
LEFT JOIN duplicates d ON d.row = i.row
LEFT JOIN left_out l ON l.row = i.row
"""


def compare(m: Matching) -> None:
    """Create the view `compared`: each row, its customer, and its changes."""
    compared = m.operation.compared
    fields, drifted = "", []
    for name in m.fields:
        if name == "metadata":
            wanted, stays, differs = "m.after", "coalesce(m.same, true)", "m.drifted"
        else:
            wanted = f"CASE WHEN blank(c.{name}) THEN i.f_{name} END" if m.only_missing else f"i.f_{name}"
            stays = f"(w_{name} IS NULL OR alike(c.{name}, i.f_{name}))"
            differs = f"i.f_{name} IS NOT NULL AND NOT alike(b.{name}, c.{name})"
        fields += f", {wanted} AS w_{name}, "
        fields += f"known AND {stays} AS s_{name}, c.{name} AS c_{name}" if compared else f"false AS s_{name}"
        drifted.append(f"({differs})")
    m.con.execute(
        _COMPARED.format(
            fields=fields,
            drifted=" OR ".join(drifted) if compared and drifted else "false",
            locked="c.identified" if m.may_be_locked else "false",
        )
    )


def plan_rows(m: Matching) -> Iterator[pa.RecordBatch]:
    """The plan's rows in input order, with the columns of `ROW_SCHEMA`."""
    hints = [(name, f"as_json(h_{name})", f"h_{name} IS NOT NULL") for name in m.secrets]
    old = _fields(m, "c_", "before") if m.operation.compared else "NULL"
    found = m.con.execute(f"""
WITH judged AS (SELECT *, {_done(m)} AS done FROM compared)
SELECT row, line, {_key(m)} AS key, matched_code AS customer_code, coalesce(email, held_email) AS email,
  coalesce(id, held_id) AS customer_id, CASE WHEN known THEN {old} END AS old, {_fields(m, "f_", "after")} AS new,
  {_json_object(hints) if hints else "NULL"} AS secrets,
  CASE WHEN blank THEN 'noop' WHEN first IS NOT NULL THEN 'duplicate' WHEN done THEN 'noop' ELSE 'send' END AS verdict,
  first AS same_as, coalesce(is_live AND copied AND has_drifted, false) AS drifted,
  CASE WHEN left_out THEN '{LEFT_OUT}' WHEN blank THEN '{BLANK_ROW}'
    WHEN first IS NOT NULL THEN 'same as {m.counted_in} ' || first_line
    {_notes(m)} ELSE '' END AS note
FROM judged
ORDER BY row
""")
    return iter(found.to_arrow_reader(_BATCH))


def cleared(m: Matching) -> int:
    """How many cells clear a field."""
    cells = " + ".join(f"count(*) FILTER (f_{name} = '')" for name in m.fields)
    return int(m.one(f"SELECT {cells} FROM input")[0]) if cells else 0


def odd_texts(m: Matching) -> Iterator[str]:
    """Warnings about suspicious texts that would be sent, by the first rule of `SUSPICIOUS` that a cell matches."""
    cells, kinds = [], []
    for field in m.fields:
        kind = m.operation.by_column[field].kind
        doubted = {"name": f"NOT s_{field}", "text": f"NOT s_{field}"}
        if m.operation.compared:
            doubted["phone"] = f"trim(c_{field}) IN ('+' || f_{field}, '00' || f_{field})"
        if kind in doubted:
            cells.append(f"CASE WHEN w_{field} <> '' AND {doubted[kind]} THEN f_{field} END")
            kinds.append(quoted_text(kind))
    new = ""
    if m.operation.name == "create":
        new = " AND NOT known"
        cells.append("email")
        kinds.append("'email'")
    if not cells:
        return
    # Two tables, because DuckDB compiles each pattern again for each step of a query.
    m.con.execute(
        f"CREATE TEMP TABLE cells AS SELECT row, line, unnest([{', '.join(cells)}]) AS cell, "
        f"unnest([{', '.join(kinds)}]) AS kind FROM compared WHERE NOT left_out AND first IS NULL{new}"
    )
    whens = " ".join(f"WHEN regexp_matches(cell, ?) THEN {n}" for n in range(len(SUSPICIOUS) - 1))
    m.con.execute(
        f"CREATE TEMP TABLE odd_texts AS SELECT row, line, CASE WHEN cell IS NULL THEN NULL "
        f"WHEN kind = 'phone' THEN {len(SUSPICIOUS)} "
        f"WHEN kind = 'email' THEN CASE WHEN regexp_matches(cell, ?) THEN {len(SUSPICIOUS) + 1} END {whens} "
        f"WHEN kind = 'name' AND regexp_matches(cell, ?) THEN {len(SUSPICIOUS) - 1} END AS rule FROM cells",
        [ODD_EMAIL[0], *(pattern for pattern, _ in SUSPICIOUS)],
    )
    found = m.con.execute(
        f"SELECT rule, count(*), (list(line ORDER BY row))[:{_EXAMPLES}] FROM odd_texts "
        "WHERE rule IS NOT NULL GROUP BY rule ORDER BY rule"
    )
    descriptions = [what for _, what in SUSPICIOUS] + [_NO_PLUS, ODD_EMAIL[1]]
    for rule, count, lines in found.fetchall():
        first = ", ".join(f"{m.counted_in} {line}" for line in lines)
        yield (
            f"{counted(count, 'cell', 'holds', 'hold')} {descriptions[rule]} and would be sent as text; leave a cell "
            f"blank to leave the field as it is. First seen in {first}."
        )


def _key(m: Matching) -> str:
    if m.operation.name == "deactivate-authorization":
        return "''"  # the authorization code is a secret
    return "coalesce(email, '')" if m.operation.name == "create" else "coalesce(matched_code, email, '')"


def _json_object(pairs: list[tuple[str, str, str]]) -> str:
    """SQL for a JSON object of names and JSON values, without pairs whose third expression is not true."""
    parts = [f"CASE WHEN {exists} THEN '\"{name}\":' || {value} END" for name, value, exists in pairs]
    return f"'{{' || concat_ws(',', {', '.join(parts)}) || '}}'" if parts else "'{}'"


def _fields(m: Matching, texts: str, metadata: str) -> str:
    """The fields that the row changes, or all of them if it changes nothing; `texts` is the values' prefix."""
    return _json_object(
        [
            (
                name,
                metadata if name == "metadata" else f"as_json({texts}{name})",
                f"w_{name} IS NOT NULL AND (done OR NOT s_{name})",
            )
            for name in m.fields
        ]
    )


def _nothing(m: Matching) -> str:
    return " AND ".join(f"w_{name} IS NULL" for name in m.fields) or "true"


def _done(m: Matching) -> str:
    """The SQL condition that a row does not have to be sent."""
    if m.operation.name == "create":
        return "known"
    if not m.operation.compared:
        return "false"
    return f"({_nothing(m)}) OR ({' AND '.join(f's_{name}' for name in m.fields) or 'true'})"


def _notes(m: Matching) -> str:
    if m.operation.name == "create":
        return "WHEN known THEN 'is a customer already'"
    if not m.operation.compared:
        return ""
    absent = (
        "WHEN NOT known THEN 'not in the copy' WHEN NOT is_live AND _missing_since IS NOT NULL "
        "THEN 'not seen at Paystack since ' || strftime(_missing_since, '%Y-%m-%d')"
        if m.copied
        else ""
    )
    renamed = " OR ".join(f"(w_{name} IS NOT NULL AND NOT s_{name})" for name in m.may_be_locked)
    locked = f"WHEN identified AND ({renamed}) THEN '{LOCKED}'" if renamed else ""
    return f"WHEN {_nothing(m)} THEN 'nothing to set' WHEN done THEN 'as wanted already' {locked} {absent}"
