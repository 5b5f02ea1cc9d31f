"""A plan as one HTML file that anyone can open: no network, no external part, personal data masked.

It states the facts that the terminal states (`describe.plan_facts`). Values are masked here, not in the browser: what
is not shown is not in the file. The page's script and style are allowed by their hashes only, and the script writes
text, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shlex
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from paystack_source.bulk.describe import plan_facts
from paystack_source.bulk.input.files import private_file
from paystack_source.bulk.masking import masked
from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.run.readback import same
from paystack_source.commands import called
from paystack_source.values import as_text, is_blank

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paystack_source.bulk.operations import Operation
    from paystack_source.bulk.plan.plan import Plan, PlanHeader, PlanRow

SHOWN: Final = 5_000
"""How many rows the page holds at most; it says how many more are in the plan."""

_LONGEST: Final = 200
# Characters that would change how the text around them looks, or not look like anything.
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def write_review(
    plan: Plan,
    path: str | Path,
    *,
    show_personal: bool = False,
    command: str | None = None,
    rows: int = SHOWN,
) -> Path:
    """Writes the page, readable by its owner only, and returns its path.

    For the arguments see `render_review`.
    """
    path = Path(path)
    with private_file(path) as file:
        file.write(render_review(plan, show_personal=show_personal, command=command, rows=rows).encode())
    return path


def render_review(
    plan: Plan, *, show_personal: bool = False, command: str | None = None, rows: int = SHOWN
) -> str:
    """The page as text.

    `show_personal` puts names, emails and phones in; secret fields are never there. `command` is what applies
    the plan, if it is not the usual one. `rows` is how many rows the page holds at most, those to send first.
    """
    header = plan.header
    operation = OPERATIONS[header.operation]
    shown, changes = _gather(plan.rows(), operation, rows, show_personal=show_personal)
    total = header.counts.rows
    data = {
        "rows": shown,
        "total": total,
        "place": "Line" if header.input.format in ("csv", "excel") else "Row",
    }
    command = command or f"{called('bulk')} apply {shlex.quote(str(plan.path))}"
    page = resources.files("paystack_source.bulk.plan").joinpath("review.html").read_text(encoding="utf-8")
    style, script = _inside(page, "style"), _inside(page, "script")
    parts = {
        "csp": (
            "default-src 'none'; base-uri 'none'; form-action 'none'; "
            f"style-src {_hash(style)}; script-src {_hash(script)}"
        ),
        "title": html.escape(operation.title),
        "mode": _mode(header),
        "facts": _facts(plan),
        "warnings": _warnings(header),
        "changes": _changes(changes),
        "command": html.escape(command),
        "confirm": _confirm(header),
        "masked": ("Personal data is shown." if show_personal else "Personal data is masked in this file."),
        "held": _held(len(shown), total),
        "seal": html.escape(header.seal),
        "version": html.escape(header.tool_version),
        "data": msgspec.json.encode(data).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028"),
    }
    # In one pass, so that nothing inside a value is taken for a place.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


# -- rows ----------------------------------------------------------------------------------------------------


def _gather(
    rows: Iterable[PlanRow], operation: Operation, most: int, *, show_personal: bool
) -> tuple[list[list[Any]], Counter[tuple[str, str, str]]]:
    """The rows to show in input order (those to send come before others), and how often each change occurs."""
    sent: list[list[Any]] = []
    others: list[list[Any]] = []
    changes: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        sends = row.verdict == "send"
        if sends:
            changes.update(_change(operation, name, row.old, value) for name, value in row.new.items())
        kept = sent if sends else others
        if len(kept) < most:
            kept.append(_shown(row, operation, show_personal=show_personal))
    return sorted(sent + others[: most - len(sent)]), changes


def _change(operation: Operation, name: str, old: dict[str, Any] | None, value: Any) -> tuple[str, str, str]:  # noqa: ANN401
    """The kind of a change, for counting.

    Values of a list of choices by name, all others by what happens to them.
    """
    column = operation.by_column[name]
    if column.choices:
        before = "unknown" if old is None else str(old.get(name) or "none")
        return name, before, str(value)
    if old is None:
        return name, "unknown" if operation.undoable else "", "set"
    if same(value, old.get(name)):
        return name, "", "stays"
    if is_blank(value):
        return name, "", "cleared"
    return name, "", "filled in" if is_blank(old.get(name)) else "changed"


def _shown(row: PlanRow, operation: Operation, *, show_personal: bool) -> list[Any]:
    """One row for the page: row, line, customer, verdict, drifted, note, [field, old, new, differs] each."""
    who = row.customer_code or row.email or row.key or "".join(row.secrets.values())
    also = row.email if row.customer_code else ""
    cells = []
    for name, value in row.new.items():
        old = None if row.old is None else row.old.get(name)
        personal = operation.by_column[name].personal and not show_personal
        before = None if row.old is None else _text(old, personal=personal)
        cells.append([name, before, _text(value, personal=personal), row.old is None or not same(value, old)])
    cells += [[name, None, hint, True] for name, hint in row.secrets.items()]
    if not show_personal:
        who, also = _name(who), masked(also)
    return [row.row, row.line, _clean(who), _clean(also or ""), row.verdict, row.drifted, row.note, cells]


def _name(who: str) -> str:
    return f"CUS_…{who[-4:]}" if who.startswith("CUS_") else who if who.startswith("…") else masked(who)


def _text(value: Any, *, personal: bool) -> str:  # noqa: ANN401 - any JSON
    """A value as text; "" says that there is nothing."""
    if is_blank(value):
        return ""
    if isinstance(value, dict):
        pairs = ", ".join(f"{name}: {_text(item, personal=personal) or '-'}" for name, item in value.items())
        return _clean("{" + pairs + "}")
    text = as_text(value) or ""
    return _clean(masked(text) if personal else text)


def _clean(text: str) -> str:
    text = _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


# -- the page's fixed parts ----------------------------------------------------------------------------------


def _inside(page: str, tag: str) -> str:
    """What stands between the tags, as the browser hashes it."""
    match = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return match[1] if match else ""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _mode(header: PlanHeader) -> str:
    if header.host == "loopback":
        return '<span class="mode test">local sandbox</span>'
    names = {"live": "LIVE account", "test": "test mode", None: "mode not known"}
    kind = "test" if header.key_mode == "test" else "live"
    return f'<span class="mode {kind}">{names[header.key_mode]}</span>'


def _facts(plan: Plan) -> str:
    about = plan.header
    source = Path(about.input.path).name if about.input.path else "a dataframe"
    facts = [*plan_facts(plan), ("input", source), ("made", f"{about.created_at:%Y-%m-%d %H:%M} UTC")]
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(_clean(str(value)))}</dd></div>"
        for name, value in facts
    )


def _warnings(header: PlanHeader) -> str:
    said = [*header.guard.reasons, *header.warnings]
    if header.input.ignored:
        said.append("Columns that are not used: " + ", ".join(header.input.ignored))
    if not said:
        return ""
    items = "".join(
        f"<li>{html.escape(_clean(text) if len(text) <= _LONGEST else text)}</li>" for text in said
    )
    return (
        f'<section class="warnings" aria-label="Warnings"><h2>Before you apply</h2><ul>{items}</ul></section>'
    )


def _changes(changes: Counter[tuple[str, str, str]]) -> str:
    lines = []
    for (name, before, after), count in sorted(changes.items(), key=lambda item: (item[0][0], -item[1])):
        what = f"{before} → {after}" if before and before != "unknown" else after
        if before == "unknown":
            what = f"{after} (old value unknown)"
        lines.append(f"<tr><td>{html.escape(name)}</td><td>{html.escape(what)}</td><td>{count:,}</td></tr>")
    if not lines:
        return ""
    head = "<tr><th scope='col'>Field</th><th scope='col'>What happens</th><th scope='col'>Rows</th></tr>"
    table = f'<table class="sums"><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table>'
    return f"<section><h2>What changes</h2>{table}</section>"


def _confirm(header: PlanHeader) -> str:
    if not header.guard.needed:
        return ""
    phrase = html.escape(header.guard.phrase)
    return f"<p>You will be asked to type <b>{phrase}</b>, the number of rows to send.</p>"


def _held(held: int, total: int) -> str:
    if held == total:
        return ""
    return f"This page holds {held:,} rows, those to send first; {total - held:,} more are in the plan."
