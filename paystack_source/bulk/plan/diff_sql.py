"""The planner's SQL (DuckDB), for `diff.py`: constants, and the query that writes a plan's rows."""

# ruff: noqa: S608  # the names are those of the table of operations; values never are in the text

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from paystack_source.bulk.plan.matching import Diff

CURRENT: Final = """
CREATE OR REPLACE TABLE current AS
SELECT {columns}, true AS is_live FROM live WHERE customer_code IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY customer_code) = 1
UNION ALL BY NAME
SELECT {columns}, false AS is_live FROM base
ANTI JOIN live USING (customer_code)
"""

# A clash is a row whose code, email and id belong to different customers, as far as anyone knows.
WHO: Final = """
CREATE OR REPLACE TABLE who AS
WITH by_email AS (
  SELECT lower(email) AS folded, min(customer_code) AS code, min(id) AS id, count(*) AS customers
  FROM current WHERE {by_email} AND email IS NOT NULL GROUP BY ALL
), exact AS (
  SELECT email, min(customer_code) AS code, min(id) AS id FROM current
  WHERE lower(email) IN (SELECT folded FROM by_email WHERE customers > 1) GROUP BY ALL
), linked AS (
  SELECT lower(email) AS folded, min(code) AS code FROM input
  WHERE {by_email} AND code IS NOT NULL AND email IS NOT NULL GROUP BY ALL HAVING count(DISTINCT code) = 1
), named AS (
  SELECT i.row, i.code, lower(i.email) AS email,
    CASE WHEN m.customers = 1 THEN m.code ELSE x.code END AS email_code,
    coalesce(m.customers, 0) AS customers, d.customer_code AS id_code, lower(d.email) AS id_email,
    lower(g.email) AS code_email, l.code AS linked_code,
    i.id, g.id AS code_number, CASE WHEN m.customers = 1 THEN m.id ELSE x.id END AS email_number
  FROM input i
  LEFT JOIN by_email m ON m.folded = lower(i.email)
  LEFT JOIN exact x ON x.email = i.email
  LEFT JOIN current d ON d.id = i.id
  LEFT JOIN current g ON g.customer_code = i.code
  LEFT JOIN linked l ON l.folded = lower(i.email)
), found AS (
  SELECT row, coalesce(code, email_code, id_code, linked_code) AS code,
    customers > 1 AND email_code IS NULL AND code IS NULL AS ambiguous,
    coalesce(code <> email_code, false) OR coalesce(code <> id_code, false)
      OR coalesce(email_code <> id_code, false)
      OR coalesce(email <> code_email, false) OR coalesce(email <> id_email, false)
      OR coalesce(id <> code_number, false) OR coalesce(id <> email_number, false) AS clash
  FROM named
)
SELECT f.row, f.code, f.ambiguous, f.clash, {identity} AS identity
FROM found f JOIN input i USING (row)
WHERE NOT i.blank
"""

BROKEN: Final = """
FROM input i JOIN who w USING (row) LEFT JOIN current c ON c.customer_code = w.code WHERE {condition}
"""

DOUBLES: Final = """
CREATE OR REPLACE TABLE doubles AS
WITH several AS (
  SELECT identity FROM who WHERE identity IS NOT NULL GROUP BY ALL HAVING count(*) > 1
)
SELECT row, i.line, identity, struct_pack({wants}) AS wants
FROM who JOIN several USING (identity) JOIN input i USING (row)
"""

FOLDED: Final = """
CREATE OR REPLACE TABLE folded AS
SELECT row, line, first, first_line, wants IS DISTINCT FROM first_wants AS differs
FROM (
  SELECT row, line, wants, min(row) OVER same AS first, arg_min(line, row) OVER same AS first_line,
    arg_min(wants, row) OVER same AS first_wants
  FROM doubles WINDOW same AS (PARTITION BY identity)
)
WHERE row <> first
"""

METADATA: Final = """
SELECT i.row, i.line, i.f_metadata, c.metadata, b.metadata, c.is_live AND b.customer_code IS NOT NULL
FROM input i LEFT JOIN who w USING (row)
LEFT JOIN current c ON c.customer_code = w.code
LEFT JOIN base b ON b.customer_code = w.code
WHERE i.f_metadata IS NOT NULL
"""

# Operations whose rows are compared with what the customer has.
COMPARED: Final = ("risk-action", "update")


def result(diff: Diff) -> str:
    """The query for the plan's rows in input order."""
    name = diff.operation.name
    compared = name in COMPARED
    old = _object(diff, "old") if compared else "NULL"
    held = "c.customer_code IS NOT NULL"
    guards = "".join(f", i.f_{field}" for field in diff.fields if field != "metadata")
    return f"""
SELECT i.row, i.line, {_key(name)} AS key, w.code AS customer_code, coalesce(i.email, c.email) AS email,
  coalesce(i.id, c.id) AS customer_id, CASE WHEN {held} THEN {old} END AS old, {_object(diff, "new")} AS new,
  {_hints(diff)} AS secrets,
  CASE WHEN i.blank THEN 'noop' WHEN t.row IS NOT NULL THEN 'folded'
    WHEN {_done(diff)} THEN 'noop' ELSE 'send' END AS verdict,
  t.first AS same_as, coalesce({_drifted(diff) if compared else "false"}, false) AS drifted,
  CASE WHEN i.blank THEN 'blank row' WHEN t.row IS NOT NULL THEN 'same as {diff.place} ' || t.first_line
    {_notes(diff)} ELSE '' END AS note{guards}
FROM input i
LEFT JOIN who w USING (row)
LEFT JOIN current c ON c.customer_code = w.code
LEFT JOIN base b ON b.customer_code = w.code
LEFT JOIN merged m ON m.row = i.row
LEFT JOIN folded t ON t.row = i.row
ORDER BY i.row
"""


def _key(name: str) -> str:
    if name == "deactivate-authorization":
        return "''"  # the code is a secret
    return "coalesce(i.email, '')" if name == "create" else "coalesce(w.code, i.email, '')"


def _wanted(diff: Diff, field: str) -> str:
    """The value a row sets, null for none."""
    if field == "metadata":
        return "m.after"
    if diff.only_missing:
        return f"CASE WHEN coalesce(c.{field}, '') = '' THEN i.f_{field} END"
    return f"i.f_{field}"


def _object(diff: Diff, which: str) -> str:
    pairs = []
    for field in diff.fields:
        if field == "metadata":
            value = "m.before" if which == "old" else "m.after"
        else:
            source = f"c.{field}" if which == "old" else f"i.f_{field}"
            value = f"coalesce(CAST(to_json({source}) AS VARCHAR), 'null')"
        pairs.append(f"CASE WHEN {_wanted(diff, field)} IS NOT NULL THEN '\"{field}\":' || {value} END")
    return f"'{{' || concat_ws(',', {', '.join(pairs)}) || '}}'" if pairs else "'{}'"


def _hints(diff: Diff) -> str:
    pairs = [
        f"CASE WHEN i.h_{name} IS NOT NULL THEN '\"{name}\":' || CAST(to_json(i.h_{name}) AS VARCHAR) END"
        for name in diff.secrets
    ]
    return f"'{{' || concat_ws(',', {', '.join(pairs)}) || '}}'" if pairs else "NULL"


def _nothing(diff: Diff) -> str:
    return " AND ".join(f"{_wanted(diff, field)} IS NULL" for field in diff.fields) or "true"


def _done(diff: Diff) -> str:
    """Whether a row need not be sent."""
    name = diff.operation.name
    if name == "create":
        return "c.customer_code IS NOT NULL"
    if name not in COMPARED:
        return "false"
    same = [
        "coalesce(m.same, true)"
        if field == "metadata"
        else f"({_wanted(diff, field)} IS NULL OR coalesce(c.{field}, '') = i.f_{field})"
        for field in diff.fields
    ]
    return f"({_nothing(diff)}) OR (c.customer_code IS NOT NULL AND {' AND '.join(same)})"


def _notes(diff: Diff) -> str:
    name = diff.operation.name
    if name == "create":
        return "WHEN c.customer_code IS NOT NULL THEN 'is a customer already'"
    if name not in COMPARED:
        return ""
    absent = (
        "WHEN c.customer_code IS NULL THEN 'not in the copy' WHEN NOT c.is_live AND b.missing_since IS NOT NULL "
        "THEN 'not seen at Paystack since ' || strftime(b.missing_since, '%Y-%m-%d')"
        if diff.copied
        else ""
    )
    return f"WHEN {_nothing(diff)} THEN 'nothing to set' WHEN {_done(diff)} THEN 'as wanted already' {absent}"


def _drifted(diff: Diff) -> str:
    differs = [
        "m.drifted"
        if field == "metadata"
        else f"(i.f_{field} IS NOT NULL AND coalesce(b.{field}, '') <> coalesce(c.{field}, ''))"
        for field in diff.fields
    ]
    return f"c.is_live AND b.customer_code IS NOT NULL AND ({' OR '.join(differs) or 'false'})"
