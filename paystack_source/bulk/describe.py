"""Plans and runs in words and numbers: what the command line shows and what `--json` holds.

Pure; draws nothing.
"""

from __future__ import annotations

import itertools
import json
import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from paystack_source.bulk.operations import OPERATIONS
from paystack_source.bulk.run.states import Outcome
from paystack_source.bulk.service import COMMAND, MAX_AGE_RESUMED
from paystack_source.warehouse.locations import SANDBOX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from paystack_source.bulk.plan.plan import Plan, PlanHeader, PlanRow
    from paystack_source.bulk.service import Finished

UNKNOWN: Final = "(unknown)"
_SHOWN: Final = 40

Facts = list[tuple[str, object]]


def plan_facts(plan: Plan) -> Facts:
    """What a plan is about, as label and value."""
    header = plan.header
    counts = header.counts
    facts: Facts = [
        ("operation", OPERATIONS[header.operation].title),
        ("account", f"{mode(header)}, integration {header.account or UNKNOWN}"),
        ("rows", f"{counts.rows:,}"),
        ("to send", f"{counts.to_send:,}"),
        ("already as wanted", f"{counts.noop:,} (not sent)"),
    ]
    if counts.folded:
        facts.append(("identical duplicates", f"{counts.folded:,} (sent once)"))
    if counts.drifted:
        facts.append(("changed since the copy", f"{counts.drifted:,}"))
    if counts.unknown_old:
        facts.append(("old value unknown", f"{counts.unknown_old:,}"))
    facts += [
        ("requests", f"{counts.requests:,}"),
        (
            "time",
            f"about {minutes(header.minutes)} at {header.per_minute:,.0f} requests a minute"
            if header.per_minute
            else "without a limit of our own: as fast as Paystack answers",
        ),
        ("compared with", _copy(header)),
        ("plan", plan.path),
        ("seal", header.seal[:12]),
    ]
    if header.undo_of:
        facts.insert(1, ("takes back", header.undo_of))
    return facts


def mode(header: PlanHeader) -> str:
    """`test`, or `LIVE` in capitals."""
    return "LIVE" if header.key_mode == "live" else header.key_mode or "unknown"


def _copy(header: PlanHeader) -> str:
    held = []
    if header.copy is not None:
        as_of = f", as of {header.copy.as_of:%Y-%m-%d %H:%M} UTC" if header.copy.as_of else ""
        held.append(f"the copy ({header.copy.customers:,} customers{as_of})")
    if header.refreshed:
        held.append(f"{header.refreshed:,} customers read now")
    return " and ".join(held) or "nothing: old values are unknown"


def minutes(value: float) -> str:
    """`12 s`, `3.4 min`, `2 h 47 min`."""
    if value < 1:
        return f"{value * 60:.0f} s"
    if value < 60:  # noqa: PLR2004
        return f"{value:.1f} min"
    return f"{value // 60:.0f} h {value % 60:.0f} min"


CHANGES: Final = ("line", "customer", "field", "old", "new", "note")


def plan_changes(plan: Plan, most: int) -> list[tuple[object, ...]]:
    """The first changes, a line per field: what holds now, what will.

    Only personal values that the user has anyway.
    """
    sending = (row for row in plan.rows() if row.verdict == "send")
    lines: list[tuple[object, ...]] = []
    for row in itertools.islice(sending, most):
        note = "; ".join(filter(None, ["changed since the copy" if row.drifted else "", row.note]))
        for number, (name, old, new) in enumerate(_fields(row)):
            first = number == 0
            lines.append(
                (row.line if first else "", _who(row) if first else "", name, old, new, note if first else "")
            )
    return lines


def _who(row: PlanRow) -> str:
    return row.customer_code or row.email or row.key or "(not named)"


def _fields(row: PlanRow) -> list[tuple[str, str, str]]:
    fields = []
    for name, new in row.new.items():
        old = UNKNOWN if row.old is None or name not in row.old else _shown(row.old[name])
        fields.append((name, old, _shown(new)))
    fields += [(name, "", hint) for name, hint in row.secrets.items()]
    return fields


def _shown(value: object) -> str:
    if value in (None, ""):
        return "(empty)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def plan_frame(plan: Plan) -> pd.DataFrame:
    """A plan as a frame, one line per input row: what is done with it, and old and new of every field.

    `attrs` holds what `plan_json` says. Old values that nobody knows are missing.
    """
    import pandas as pd  # noqa: PLC0415 - only notebooks need it

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
    """What `plan --json` ends with; `page` is where it can be looked at."""
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

# While another process is at it, what has no outcome yet is no failure.
_RUNNING_LABELS: Final = _LABELS | {Outcome.UNKNOWN: "under way", Outcome.UNSENT: "to be sent"}

HEADINGS: Final = {
    "running": "Running: another process is at it now",
    "killed": "Killed: resume it",
    "interrupted": "Interrupted",
    "stopped": "Stopped",
    "incomplete": "Incomplete",
    "complete": "Complete",
}


def labels(finished: Finished) -> dict[Outcome, str]:
    """What each outcome is called."""
    return _RUNNING_LABELS if finished.running else _LABELS


def run_facts(finished: Finished, chosen: Mapping[str, Any]) -> Facts:
    """How a run stands, as label and value, and the way back if there is one; for `chosen` see `again`."""
    header, names = finished.plan.header, labels(finished)
    facts: Facts = [
        ("run", finished.run.run_id),
        ("operation", OPERATIONS[header.operation].title),
        ("account", f"{mode(header)}, integration {header.account or UNKNOWN}"),
        ("rows", f"{header.counts.rows:,}"),
    ]
    facts += [(names[outcome], f"{number:,}") for outcome, number in finished.counts.items() if number]
    if finished.stopped:
        facts.append(("stopped", finished.stopped))
    facts += [("requests", f"{finished.requests:,}"), ("time", minutes(finished.seconds / 60))]
    for label, path in (
        ("results", finished.run.results_file),
        ("failed rows", finished.run.failed_file),
        ("rows not sent", finished.run.unsent_file),
    ):
        if path.is_file():
            facts.append((label, path))
    if _undoable(finished):
        facts.append(("to take it back", again("undo", finished.run.name, finished.plan, chosen)))
    return facts


def _undoable(finished: Finished) -> bool:
    """Whether there is something to take back, and it is not itself the taking back."""
    header = finished.plan.header
    known = header.counts.to_send > header.counts.unknown_old
    undoable = OPERATIONS[header.operation].undoable and known and not header.undo_of
    return bool(undoable and finished.counts[Outcome.APPLIED] and not finished.running)


REASONS: Final = ("rows", "outcome", "code", "message", "example line")


def run_reasons(finished: Finished, most: int) -> list[tuple[object, ...]]:
    """Rows grouped by why, with one example line each."""
    names = labels(finished)
    lines: list[tuple[object, ...]] = [
        (
            f"{group.rows:,}",
            names[group.outcome],
            group.code,
            "" if finished.running and group.outcome is Outcome.UNKNOWN else group.message,
            group.example_line,
        )
        for group in finished.reasons[:most]
    ]
    left = len(finished.reasons) - most
    return [*lines, ("", f"… and {left:,} more reasons", "", "", "")] if left > 0 else lines


def next_commands(finished: Finished, chosen: Mapping[str, Any]) -> list[str]:
    """What to type next, most urgent first: nothing after a success, for people type what they are offered.

    For `chosen` see `again`.
    """
    if finished.running:
        return []
    run, counts, plan = finished.run, finished.counts, finished.plan
    header = plan.header
    commands = []
    if counts[Outcome.UNSENT] or counts[Outcome.UNKNOWN]:
        commands.append(again("resume", run.name, plan, chosen))
    if counts[Outcome.REJECTED] and header.undo_of:  # it puts back what is not put back yet
        commands.append(again("undo", run.beside(header.undo_of).name, plan, chosen))
    elif counts[Outcome.REJECTED]:
        masked = [name for name in OPERATIONS[header.operation].secret_fields if name in header.input.mapping]
        note = f"once corrected, with {' and '.join(masked)} typed anew" if masked else "once corrected"
        failed = f"{header.operation} {quoted(run.failed_file)}"
        commands.append(f"{again('run', failed, plan, chosen)}   # {note}")
    if counts[Outcome.ACCEPTED_PENDING]:
        commands.append(again("status", f"{run.name} --refresh", plan, chosen))
    return commands


_Switches = tuple[tuple[str, str, Any], ...]  # its name in Python, its name on the command line, its default

_WHERE: Final[_Switches] = (
    ("sandbox", "--sandbox", False),
    ("no_copy", "--no-copy", False),
    ("destination", "--destination", "duckdb"),
    ("dataset", "--dataset", "paystack"),
)
_HOW: Final[_Switches] = (
    ("risk_action", "--risk-action", None),
    ("only_missing", "--only-missing", False),
    ("metadata", "--metadata", "merge"),
    ("refresh", "--refresh", "auto"),
)
_SHARE: Final[_Switches] = (("quota_share", "--quota-share", 1.0),)
_RULES: Final[_Switches] = (
    *_SHARE,
    ("canary", "--canary", 0),
    ("canary_max", "--canary-max", 0.0),
    ("max_equal_rejections", "--max-equal-rejections", 20),
    ("recheck", "--recheck", None),
)
_TAKES: Final[Mapping[str, _Switches]] = {
    "status": (),
    "apply": _SHARE,
    "undo": _SHARE,
    "resume": (*_RULES, ("max_age", "--max-age", None)),
    "run": (*_HOW, *_RULES),
}


def switches(chosen: Mapping[str, Any]) -> dict[str, bool | str]:
    """Those of the chosen switches that say where, as they were typed, if they are not as by default."""
    typed = _typed(chosen)
    return {name: typed[name] for name, _, default in _WHERE if typed.get(name, default) != default}


def _typed(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """With the names that were typed: those of a sandbox's copy end in `SANDBOX` (`paystack_source.warehouse.locations`)."""
    named = {
        name: chosen[name].removesuffix(SANDBOX) for name in ("destination", "dataset") if name in chosen
    }
    return {**chosen, **named}


def again(command: str, what: str, plan: Plan, chosen: Mapping[str, Any]) -> str:
    """A command to paste that goes on with the plan as it was made.

    `chosen` are the switches of the command at hand. What it does not say is taken from the plan.
    """
    options = plan.header.options
    planned = {**options, **options.get("switches", {})}
    if (chosen.get("max_age") or 0) <= MAX_AGE_RESUMED.total_seconds() / 3600:
        chosen = {**chosen, "max_age": None}  # by default `resume` takes a plan of this age
    return f"{COMMAND} {command} {what}{_written((*_WHERE, *_TAKES[command]), chosen, planned)}"


def where(chosen: Mapping[str, Any]) -> str:
    """The chosen switches that say where, to be put behind a command."""
    return _written(_WHERE, chosen, {})


def _written(wanted: _Switches, chosen: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    words, chosen = [], _typed(chosen)
    for name, switch, default in wanted:
        given = (chosen.get(name), planned.get(name))
        value = next((value for value in given if value is not None and value != default), default)
        if value is True:
            words.append(switch)
        elif value is False and default is None:
            words.append(switch.replace("--", "--no-", 1))
        elif value != default:
            words += [switch, shlex.quote(f"{value:g}" if isinstance(value, float) else str(value))]
    return "".join(f" {word}" for word in words)


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
