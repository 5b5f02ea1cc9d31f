"""Describes plans and runs for everybody who shows them: the command line, the review page, the helpers.

It makes the facts, tables and commands that are shown, and the JSON objects.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import LEFT_OUT, MAX_AGE_RESUMED, Plan, PlanHeader
from paystack_source.bulk.plan.tally import BLANK_ROW, Tally, Transition, field_changes
from paystack_source.bulk.run.results import RunReport
from paystack_source.bulk.run.runs import Run
from paystack_source.bulk.run.send import EXISTS, NAMES_LOCKED
from paystack_source.bulk.run.states import Outcome
from paystack_source.commands import called, command, quoted
from paystack_source.values import as_text, counted, duration

if TYPE_CHECKING:
    import pandas as pd

COMMAND: Final = called("bulk")
UNKNOWN: Final = "(unknown)"
_SHOWN: Final = 40
_OF_CUSTOMERS: Final = frozenset({"risk-action", "update", "validate"})

NOTHING_SENT: Final = "Nothing has been sent yet."
"""Shown for a plan that was not applied."""

Facts = list[tuple[str, object]]


def plan_facts(plan: Plan) -> Facts:
    header, tally = plan.header, plan.tally
    counts = header.counts
    is_create = header.operation == "create"
    changes = danger_first(tally) if tally.operation.compared else []
    limit = f"about {duration(header.minutes * 60)} at {header.per_minute:,.0f} requests a minute"
    facts: Facts = [
        ("operation", BULK_OPERATIONS[header.operation].title),
        ("takes back", header.undo_of),
        ("account", f"{mode(header)}, integration {header.account or UNKNOWN}"),
        ("rows", f"{counts.rows:,}"),
        ("to send", f"{counts.to_send:,}{_share(header)}"),
        (
            _SKIPPED["create"] if is_create else "already as wanted",
            f"{counts.noop - tally.blank:,} ({'left as they are' if is_create else 'not sent'})",
        ),
        *(
            (f"{kind.field}: {kind.before} → {kind.after}", f"{rows:,}")
            for kind, rows in changes
            if tally.operation.by_column[kind.field].choices
        ),
        ("blank rows", tally.blank and f"{tally.blank:,} (not sent)"),
        ("identical duplicates", counts.duplicates and f"{counts.duplicates:,} (sent once)"),
        _left_out(header),
        ("changed since the copy", counts.drifted and f"{counts.drifted:,}"),
        ("old value unknown", counts.unknown_old and f"{counts.unknown_old:,}"),
        ("requests", f"{counts.requests:,}"),
        ("time", limit if header.per_minute else "without a limit of our own: as fast as Paystack answers"),
        ("compared with", _compared_with(header)),
        ("plan", plan.path),
        ("seal", header.seal[:12]),
    ]
    return [(label, value) for label, value in facts if value]


def is_dangerous(kind: Transition) -> bool:
    """Whether it changes a customer who is denied or allowed now, because somebody has decided that."""
    return kind.before in {"deny", "allow"} and kind.before != kind.after


def danger_first(tally: Tally) -> list[tuple[Transition, int]]:
    """The kinds of change and their rows: first of denied customers, then of allowed ones, then by number of rows."""
    order = {"deny": 0, "allow": 1}
    return sorted(
        tally.transitions.items(),
        key=lambda item: (order.get(item[0].before, 2) if is_dangerous(item[0]) else 2, -item[1]),
    )


def _left_out(header: PlanHeader) -> tuple[str, object]:
    left_out = header.counts.left_out
    return "left out", left_out and f"{left_out:,} (because of problems)"


def _share(header: PlanHeader) -> str:
    """The rows to send as a share of all customers of the account, as text."""
    if not header.customers or not header.counts.to_send or header.operation not in _OF_CUSTOMERS:
        return ""
    share = f"{header.counts.to_send / header.customers:.1%}"
    return f" ({'under 0.1%' if share == '0.0%' else share} of all {header.customers:,} customers)"


def plan_cautions(plan: Plan) -> list[str]:
    """The warnings of a plan, the most dangerous first."""
    header = plan.header
    operation = BULK_OPERATIONS[header.operation]
    cautions = list(header.guard.reasons)
    if operation.undo_reason and header.counts.to_send:
        cautions.append(f"It cannot be undone. {operation.undo_reason}")
    return [*cautions, *header.warnings]


def mode(header: PlanHeader) -> str:
    """`test`, or `LIVE` in capitals."""
    return "LIVE" if header.key_mode == "live" else header.key_mode


def _compared_with(header: PlanHeader) -> str:
    sources = []
    if header.copy is not None:
        as_of = f", as of {header.copy.as_of:%Y-%m-%d %H:%M} UTC" if header.copy.as_of else ""
        sources.append(f"the copy ({counted(header.copy.customers, 'customer')}{as_of})")
    if header.refreshed:
        sources.append(f"{counted(header.refreshed, 'customer')} read now")
    return " and ".join(sources) or "nothing: old values are unknown"


CHANGE_COLUMNS: Final = ("line", "customer", "field", "old", "new", "note")
MOST_CHANGES: Final = 10
"""The most rows of a plan whose changes are shown."""


def plan_changes(plan: Plan) -> list[tuple[object, ...]]:
    """The first changes with values in clear: a row for each field, with the columns `CHANGE_COLUMNS`."""
    lines: list[tuple[object, ...]] = []
    unknown = (
        UNKNOWN if BULK_OPERATIONS[plan.header.operation].compared else ""
    )  # a new customer has no old values
    for row in itertools.islice(plan.rows(sent=True), MOST_CHANGES):
        note = "; ".join(filter(None, ["changed since the copy" if row.drifted else "", row.note]))
        fields = [
            (change.name, _shown(change.old) if change.known else unknown, _shown(change.new))
            for change in field_changes(row.old, row.new)
        ]
        fields += [(name, "", hint) for name, hint in row.secrets.items()]
        fields = fields or [("", "", "")]  # a create of an email alone
        who = row.customer_code or row.email or row.key or "(not named)"
        lines += [(row.line, who, *field, note) for field in fields]  # each is also shown, or logged, alone
    return lines


def without_blank_columns(
    columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> tuple[list[str], list[list[object]]]:
    """A table without the columns that are blank in each row, so that it fits a narrow terminal."""
    kept = [index for index in range(len(columns)) if any(row[index] not in ("", None) for row in rows)]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _shown(value: object) -> str:
    if value in (None, ""):
        return "(empty)"
    text = as_text(value) or ""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def plan_frame(plan: Plan) -> pd.DataFrame:
    """A plan as a pandas frame, one row per input row, with its verdict, and `old_COLUMN` and `new_COLUMN` per field.

    `attrs` has the result of `plan_json`. Unknown old values are missing values.
    """
    import pandas as pd  # noqa: PLC0415  # only notebooks need it

    lines = []
    for row in plan.rows():
        line: dict[str, Any] = {
            "line": row.line,
            "verdict": row.verdict,
            "customer_code": row.customer_code,
            "email": row.email,
            "customer_id": row.customer_id,
        }
        for name, new in row.new.items():
            line[f"old_{name}"] = None if row.old is None else row.old.get(name)
            line[f"new_{name}"] = new
        line |= row.secrets
        lines.append({**line, "drifted": row.drifted, "note": row.note})
    frame = pd.DataFrame(lines)
    if "customer_id" in frame:
        frame["customer_id"] = frame["customer_id"].astype("Int64")
    last = [name for name in ("drifted", "note") if name in frame]
    frame = frame[[name for name in frame.columns if name not in last] + last]
    frame.attrs.update(plan_json(plan))
    return frame


def plan_json(plan: Plan, page: Path | None = None) -> dict[str, Any]:
    """The object of `plan --json`; `page` is the review page."""
    header = plan.header
    return {
        "plan_file": str(plan.path),
        "review_file": None if page is None else str(page),
        "plan_id": header.plan_id,
        "seal": header.seal,
        "operation": header.operation,
        **msgspec.to_builtins(header.counts),
        "minutes": header.minutes,
        "account": header.account,
        "key_mode": header.key_mode,
        "confirmation": {"needed": header.guard.needed, "reasons": header.guard.reasons},
        "transitions": plan.tally.as_json(),
        "warnings": header.warnings,
        "undo_of": header.undo_of,
    }


_LABELS: Final = {
    Outcome.APPLIED: "applied",
    Outcome.SKIPPED_NOOP: "already as wanted",
    Outcome.ACCEPTED_PENDING: "accepted, verdict to come",
    Outcome.REJECTED: "rejected",
    Outcome.UNKNOWN: "unknown",
    Outcome.UNSENT: "not sent",
}

# Rows of these operations are not compared with Paystack, so a skipped one is not "already as wanted".
_SKIPPED: Final = {"create": "customers already", "validate": "validated already"}

# While another process works on the run, a row without an outcome has not failed.
_UNFINISHED: Final = frozenset({Outcome.UNKNOWN, Outcome.UNSENT})
_RUNNING_LABELS: Final = _LABELS | {Outcome.UNKNOWN: "under way", Outcome.UNSENT: "to be sent"}

HEADINGS: Final = {
    "running": "Running: another process works on it now",
    "killed": "Killed: resume it",
    "interrupted": "Interrupted",
    "stopped": "Stopped",
    "incomplete": "Incomplete",
    "complete": "Complete",
}


def labels(finished: RunReport) -> dict[Outcome, str]:
    names = _RUNNING_LABELS if finished.running else _LABELS
    skipped = _SKIPPED.get(finished.plan.header.operation)
    return names | {Outcome.SKIPPED_NOOP: skipped} if skipped else names


def run_facts(finished: RunReport, chosen: Mapping[str, Any]) -> Facts:
    """The facts of a run, as labels and values, and the command that undoes it. For `chosen` see `commands.command`."""
    header, names, run = finished.plan.header, labels(finished), finished.run
    files = {"results": run.results_file, "failed rows": run.failed_file, "rows not sent": run.unsent_file}
    facts: Facts = [
        ("run", run.run_id),
        ("operation", BULK_OPERATIONS[header.operation].title),
        ("account", f"{mode(header)}, integration {header.account or UNKNOWN}"),
        ("rows", f"{header.counts.rows:,}"),
        *((names[o], _counted(finished, o)) for o in Outcome if _number(finished, o)),
        ("blank rows", finished.blank and f"{finished.blank:,}"),
        _left_out(header),
        ("stopped", finished.stopped),
        ("requests", f"{finished.requests:,} (reads included)"),
        ("time", duration(finished.seconds)),
        *((label, path) for label, path in files.items() if path.is_file()),
        ("to take it back", _undoable(finished) and follow_up("undo", run.name, finished.plan, chosen)),
    ]
    return [(label, value) for label, value in facts if value]


def _number(finished: RunReport, outcome: Outcome) -> int:
    """The rows with this outcome, without blank and left-out rows, which have their own facts."""
    others = finished.plan.header.counts.left_out + finished.blank if outcome is Outcome.SKIPPED_NOOP else 0
    return finished.counts[outcome] - others


def _counted(finished: RunReport, outcome: Outcome) -> str:
    """The rows with this outcome, and how many of them repeat another row and so were not sent."""
    duplicates = finished.duplicates[outcome]
    more = f" ({duplicates:,} of them repeat another row, which was sent once)" if duplicates else ""
    return f"{_number(finished, outcome):,}{more if outcome is not Outcome.SKIPPED_NOOP else ''}"


def _undoable(finished: RunReport) -> bool:
    """Whether to offer an undo: the run is not an undo, and an undo would have rows to send."""
    header = finished.plan.header
    has_old = header.counts.to_send > header.counts.unknown_old
    undoable = BULK_OPERATIONS[header.operation].undoable and has_old and not header.undo_of
    return bool(undoable and finished.counts[Outcome.APPLIED] and not finished.running)


_WIDTH: Final = 78
_DATE_TIME: Final = 15  # of a run's id


def run_lines(finished: RunReport, undone: str | None) -> list[str]:
    """A run in two or three lines for a narrow terminal; `undone` is the id of the run that undid it."""
    header, names = finished.plan.header, labels(finished)
    by = f", undone by {undone[:_DATE_TIME]}" if undone else ""
    what = BULK_OPERATIONS[header.operation].title.lower()
    if header.undo_of:
        what = f"undo of {header.undo_of[:_DATE_TIME]}: {what}"
    elif action := header.options.get("risk_action"):
        what = f"set to {action}"
    parts = [f"{_number(finished, o):,} {names[o]}" for o in Outcome if _number(finished, o)]
    others = ((finished.blank, "blank"), (header.counts.left_out, "left out"))
    counts = ", ".join([*parts, *(f"{number:,} {what}" for number, what in others if number)])
    about = (
        f"{finished.started:%Y-%m-%d %H:%M} UTC, {mode(header)} account {header.account or UNKNOWN}, "
        f"{what}: {counts or 'no rows'}"
    )
    indented = textwrap.wrap(about, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    return [f"{finished.run.run_id}  {finished.status}{by}", *indented]


def undone_by(runs: list[RunReport]) -> dict[str, str]:
    """By run id, the newest undo of that run that changed something. `runs` are in order, the newest first."""
    undone: dict[str, str] = {}
    for run in runs:
        if run.plan.header.undo_of and run.counts[Outcome.APPLIED]:
            undone.setdefault(run.plan.header.undo_of, run.run.run_id)
    return undone


_OTHERS: Final = {LEFT_OUT: "left out", BLANK_ROW: "blank"}
REASON_COLUMNS: Final = ("rows", "outcome", "code", "message", "example line")
_MOST_REASONS: Final = 12


def run_reasons(finished: RunReport) -> list[tuple[object, ...]]:
    """Rows grouped by outcome and reason, with an example line each; the columns are `REASON_COLUMNS`."""
    names = labels(finished)
    lines: list[tuple[object, ...]] = [
        (
            f"{group.rows:,}",
            _OTHERS.get(group.message, names[group.outcome]),
            group.code,
            "" if finished.running and group.outcome in _UNFINISHED else group.message,
            group.example_line,
        )
        for group in finished.reasons[:_MOST_REASONS]
    ]
    left = len(finished.reasons) - _MOST_REASONS
    return [*lines, ("", f"… and {left:,} more reasons", "", "", "")] if left > 0 else lines


def next_commands(finished: RunReport, chosen: Mapping[str, Any]) -> list[str]:
    """The commands to type next, the most urgent first. None after a success, because users type what they see.

    For `chosen` see `commands.command`.
    """
    if finished.running:
        return []
    run, counts, plan = finished.run, finished.counts, finished.plan
    header = plan.header
    commands = []
    if counts[Outcome.UNSENT] or counts[Outcome.UNKNOWN]:
        commands.append(follow_up("resume", run.name, plan, chosen))
    correctable = sum(
        group.rows
        for group in finished.reasons
        if group.outcome is Outcome.REJECTED and group.code not in {EXISTS, NAMES_LOCKED}
    )
    if correctable and header.undo_of:  # another undo sends only rows that are not undone yet
        commands.append(follow_up("undo", Run(run.folder.parent / header.undo_of).name, plan, chosen))
    elif correctable:
        masked = " and ".join(plan.secret_columns)
        note = f"once corrected, with {masked} typed again" if masked else "once corrected"
        failed = f"{header.operation} {quoted(run.failed_file)}"
        commands.append(f"{follow_up('run', failed, plan, chosen)}   # {note}")
    if counts[Outcome.ACCEPTED_PENDING]:
        commands.append(follow_up("status", f"{run.name} --refresh", plan, chosen))
    return commands


def follow_up(subcommand: str, what: str, plan: Plan, chosen: Mapping[str, Any]) -> str:
    """A command to paste, with the switches of the plan. For `chosen` see `commands.command`."""
    options = plan.header.options
    if (chosen.get("max_age") or 0) <= MAX_AGE_RESUMED.total_seconds() / 3600:
        chosen = {**chosen, "max_age": None}  # by default `resume` takes a plan of this age
    planned = {**options, **options.get("switches", {})}
    more = input_switch(plan) if subcommand in {"apply", "resume"} else ""
    return command(f"bulk {subcommand}", chosen, what, planned=planned) + more


def input_switch(plan: Plan) -> str:
    """The switch `--input FILE`, if the plan needs secret values that came from a frame or standard input."""
    lacks = plan.header.input.path is None and plan.secret_columns
    return " --input FILE" if lacks else ""
