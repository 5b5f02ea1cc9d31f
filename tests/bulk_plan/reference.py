"""Writes the tables of `docs/bulk-input.md` from the table of operations; a test keeps the two in step.

python -m tests.bulk_plan.reference docs/bulk-input.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paystack_source.api.operations import OPERATIONS
from paystack_source.bulk.operations import BULK_OPERATIONS

if TYPE_CHECKING:
    from paystack_source.bulk.operations import BulkOperation, InputColumn

_PLACE: Final = re.compile(r"(<!-- columns -->\n).*?(<!-- end of columns -->)", re.DOTALL)


def bulk_input_page(page: str) -> str:
    """The page with its generated part as it should be."""
    text = "\n".join(_section(operation) for operation in BULK_OPERATIONS.values())
    return _PLACE.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", page)


def request_of(operation: BulkOperation) -> str:
    """Method and path, as in Paystack's API reference."""
    call = OPERATIONS[operation.endpoint]
    return f"{call.method} {call.template}"


def _section(operation: BulkOperation) -> str:
    lines = [
        f"### `{operation.name}`: {operation.title.lower()}",
        "",
        f"`{request_of(operation)}`. {_facts(operation)}",
        "",
        "| column | also called | what stands in it |",
        "| --- | --- | --- |",
    ]
    lines += [_line(operation, column) for column in operation.columns]
    thresholds = "; ".join(
        f"{guard.rows:,} {guard.what} or {guard.share:.0%} of all customers" for guard in operation.thresholds
    )
    lines += ["", f"A live run above {thresholds} must be confirmed by hand.", ""]
    return "\n".join(lines)


def _facts(operation: BulkOperation) -> str:
    undo = f"Can be undone: {', '.join(operation.undoable)}." if operation.undoable else operation.undo_reason
    repeat = "Repeating a row is harmless." if operation.repeatable else "A row is never sent twice."
    pending = " Paystack accepts it and gives the verdict later." if operation.accepted_pending else ""
    return f"{repeat}{pending} {undo}"


def _line(operation: BulkOperation, column: InputColumn) -> str:
    marks = []
    if column.required and not column.default:
        marks.append("required")
    elif operation.identifier_required and column.name in operation.identifiers:
        marks.append("one of these")
    if column.secret:
        marks.append("secret")
    name = f"`{column.name}`" + (f" ({', '.join(marks)})" if marks else "")
    aliases = ", ".join(f"`{alias}`" for alias in column.aliases)
    rule = f"{column.help} {_rule(column)}".strip()
    return f"| {name} | {aliases} | {rule} |"


def _rule(column: InputColumn) -> str:
    least, most = column.length
    if column.kind in ("digits", "phone"):
        said = f"{least} digits" if least == most else f"{least} to {most} digits"
        said += "; another number of digits is sent with a warning." if column.kind == "digits" else "."
    elif column.kind in ("name", "text", "email", "json"):
        said = f"At most {most:,} characters."
    else:
        said = ""
    return f"{said} `<clear>` empties it.".strip() if column.clearable else said


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(bulk_input_page(target.read_text(encoding="utf-8")), encoding="utf-8")
