"""Writes a plan as one HTML page, which needs no network and no other file, and masks personal data.

It shows the same facts as the terminal (`describe`), dangerous changes first. Values are masked here, not in the
browser, so the file does not contain hidden values. The page's script and style are allowed by their hashes only, and
the script writes text, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import msgspec

from paystack_source.bulk.describe import NOTHING_SENT, danger_first, is_dangerous, plan_cautions, plan_facts
from paystack_source.bulk.operations import BULK_OPERATIONS, BulkOperation
from paystack_source.bulk.plan.plan import Plan, PlanHeader, PlanRow
from paystack_source.bulk.plan.tally import Tally, field_changes
from paystack_source.commands import called, quoted
from paystack_source.private_files import check_output, private_file
from paystack_source.values import INVISIBLE, as_text, is_blank, masked

MOST_ROWS: Final = 5_000
"""The most rows of the page. The page also shows how many more the plan has."""

_LONGEST: Final = 200
_GENERATOR: Final = b'<meta name="generator" content="paystack-source review">'


def write_review(plan: Plan, path: str | Path, **how: Any) -> Path:  # noqa: ANN401  # see `render_review`
    """Writes the page for its owner only, and returns its path. Raises `ConfigError` as `check_review` does."""
    path = Path(path)
    check_review(path)
    with private_file(path) as file:
        file.write(render_review(plan, **how).encode())
    return path


def check_review(path: Path) -> None:
    """Raise `ConfigError` if the page would replace a file that is not an earlier page."""
    check_output(path, "page", lambda existing: _GENERATOR in existing.read_bytes()[:2_000])


def render_review(
    plan: Plan, *, show_personal: bool = False, command: str | None = None, rows: int = MOST_ROWS
) -> str:
    """The page as text.

    `show_personal` shows names, emails and phones in clear; secret values are never in the page. `command` applies the
    plan; None for the usual command. `rows` is the most rows of the page; rows to send come first.
    """
    header = plan.header
    operation = BULK_OPERATIONS[header.operation]
    shown = _gather(plan, rows, show_personal=show_personal)
    total = header.counts.rows
    data = {
        "rows": shown,
        "total": total,
        "place": "Line" if header.input.format in ("csv", "excel") else "Row",
    }
    page = resources.files("paystack_source.bulk.plan").joinpath("review.html").read_text(encoding="utf-8")
    # The text between the tags, exactly as the browser hashes it.
    style, script = (page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0] for tag in ("style", "script"))
    parts = {
        "csp": (
            "default-src 'none'; base-uri 'none'; form-action 'none'; "
            f"style-src {_hash(style)}; script-src {_hash(script)}"
        ),
        "title": html.escape(operation.title),
        "mode": _mode(header),
        "unsent": NOTHING_SENT,
        "facts": _facts(plan),
        "warnings": _warnings(plan),
        "changes": _changes(plan.tally),
        "command": html.escape(_escaped(command or f"{called('bulk')} apply {quoted(plan.path)}")),
        "confirm": _confirm(header),
        "masked": "Personal data is shown." if show_personal else "Personal data is masked in this file.",
        "held": _rows_note(len(shown), total),
        "seal": html.escape(header.seal),
        "version": html.escape(header.tool_version),
        "data": msgspec.json.encode(data).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028"),
    }
    # In one pass, so that `{{name}}` inside of a value is not replaced.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


# -- rows ----------------------------------------------------------------------------------------------------


def _gather(plan: Plan, most: int, *, show_personal: bool) -> list[list[Any]]:
    """The rows to show, in input order. Rows to send are chosen first."""
    sent = list(islice(plan.rows(sent=True), most))
    others = islice(plan.rows(sent=False), most - len(sent))
    operation = BULK_OPERATIONS[plan.header.operation]
    return sorted(_shown(row, operation, show_personal=show_personal) for row in chain(sent, others))


def _shown(row: PlanRow, operation: BulkOperation, *, show_personal: bool) -> list[Any]:
    """One row for the page: row, line, customer, verdict, drifted, note, [field, old, new, differs] each."""
    who = row.customer_code or row.email or row.key or "".join(row.secrets.values())
    also = row.email if row.customer_code else ""
    cells: list[list[Any]] = []
    for change in field_changes(row.old, row.new):
        personal = operation.by_column[change.name].personal and not show_personal
        old, new = (_text(value, personal=personal) for value in (change.old, change.new))
        cells.append([change.name, old if change.known else None, new, change.differs])
    cells += [[name, None, hint, True] for name, hint in row.secrets.items()]
    if not show_personal:
        who, also = _name(who), masked(also)
    return [row.row, row.line, _clean(who), _clean(also or ""), row.verdict, row.drifted, row.note, cells]


def _name(who: str) -> str:
    return f"CUS_…{who[-4:]}" if who.startswith("CUS_") else who if who.startswith("…") else masked(who)


def _text(value: object, *, personal: bool) -> str:
    """A value as text; "" if it is blank."""
    if is_blank(value):
        return ""
    if isinstance(value, dict):
        pairs = ", ".join(f"{name}: {_text(item, personal=personal) or '-'}" for name, item in value.items())
        return _clean("{" + pairs + "}")
    text = as_text(value) or ""
    return _clean(masked(text) if personal else text)


def _clean(text: str) -> str:
    text = _escaped(text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _escaped(text: str) -> str:
    """The text with invisible characters as `⟨U+200B⟩`."""
    return INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _mode(header: PlanHeader) -> str:
    if header.host == "loopback":
        return '<span class="mode test">local sandbox</span>'
    name = "LIVE account" if header.key_mode == "live" else "test mode"
    return f'<span class="mode {header.key_mode}">{name}</span>'


def _facts(plan: Plan) -> str:
    about = plan.header
    source = Path(about.input.path).name if about.input.path else "a dataframe"
    facts = [*plan_facts(plan), ("input", source), ("made", f"{about.created_at:%Y-%m-%d %H:%M} UTC")]
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(_clean(str(value)))}</dd></div>"
        for name, value in facts
    )


def _warnings(plan: Plan) -> str:
    cautions, ignored = plan_cautions(plan), plan.header.input.ignored
    if ignored:
        cautions.append("Columns that are not used: " + ", ".join(ignored))
    if not cautions:
        return ""
    items = "".join(f"<li>{html.escape(_escaped(text))}</li>" for text in cautions)
    return (
        f'<section class="warnings" aria-label="Warnings"><h2>Before you apply</h2><ul>{items}</ul></section>'
    )


def _changes(tally: Tally) -> str:
    lines = []
    for kind, count in danger_first(tally):
        name, before, after = kind
        what = f"<ins>{html.escape(after)}</ins>"
        if before == "unknown":
            what += " (old value unknown)"
        elif before:
            what = f"<del>{html.escape(before)}</del> → {what}"
        row = '<tr class="danger">' if is_dangerous(kind) else "<tr>"
        lines.append(f"{row}<td>{html.escape(name)}</td><td>{what}</td><td>{count:,}</td></tr>")
    if not lines:
        return ""
    head = "<tr><th scope='col'>Field</th><th scope='col'>What happens</th><th scope='col'>Rows</th></tr>"
    table = f'<table class="sums"><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table>'
    return f"<section><h2>What changes</h2>{table}</section>"


def _confirm(header: PlanHeader) -> str:
    if not header.guard.needed:
        return ""
    return f"<p>You will be asked to type <b>{header.counts.to_send}</b>, the number of rows to send.</p>"


def _rows_note(shown: int, total: int) -> str:
    if shown == total:
        return ""
    return f"This page shows {shown:,} rows, those to send first; {total - shown:,} more are in the plan."
