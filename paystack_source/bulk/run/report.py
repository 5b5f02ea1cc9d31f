"""How a run stands after a session: what `--json` ends with, `summary.json` and `BulkResult.summary` are made of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from paystack_source.bulk.run.results import FAILED, Tally, tally, write_results, write_summary
from paystack_source.bulk.run.runner import INTERRUPTED, Ended
from paystack_source.bulk.run.runs import utc
from paystack_source.bulk.run.states import Outcome
from paystack_source.errors import ExitCode, PaystackError

if TYPE_CHECKING:
    from pathlib import Path

    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.run.journal import Journal
    from paystack_source.bulk.run.results import Group
    from paystack_source.bulk.run.runs import Run


@dataclass(slots=True)
class RunReport:
    """How a run stands."""

    run: Run
    plan: Plan
    counts: dict[Outcome, int]
    reasons: list[Group]
    requests: int
    seconds: float
    started: datetime
    stopped: str | None = None
    error: Exception | None = None
    running: bool = False  # by another process, at this moment
    warnings: list[str] = field(default_factory=list)
    not_loaded: str | None = None
    """Why the warehouse does not have it, if it should; it is among the warnings as well."""

    @property
    def complete(self) -> bool:
        """Whether every row was applied, was so already, or was accepted."""
        return not any(self.counts[o] for o in (*FAILED, Outcome.UNSENT))

    @property
    def exit_code(self) -> int:
        if self.stopped == INTERRUPTED:
            return ExitCode.INTERRUPTED
        if isinstance(self.error, PaystackError):
            return self.error.exit_code
        return ExitCode.OK if self.complete else ExitCode.ROWS_FAILED

    @property
    def status(self) -> str:
        """One word: running, complete, interrupted, stopped (by itself), or incomplete."""
        if self.running:
            return "running"
        if self.stopped:
            return "interrupted" if self.stopped == INTERRUPTED else "stopped"
        return "complete" if self.complete else "incomplete"

    def as_json(self) -> dict[str, Any]:
        """No personal data: counts, codes, Paystack's redacted messages, line numbers and file names."""
        header = self.plan.header
        return {
            "run_id": self.run.run_id,
            "operation": header.operation,
            "status": self.status,
            "rows": header.counts.rows,
            **{outcome.value: self.counts[outcome] for outcome in Outcome},
            "folded": header.counts.folded,
            "drifted": header.counts.drifted,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "started": self.started.isoformat(timespec="seconds"),
            "key_mode": header.key_mode,
            "account": header.account,
            "plan_id": header.plan_id,
            "undo_of": header.undo_of,
            "stopped": self.stopped,
            "results_file": _path(self.run.results_file),
            "failed_file": _path(self.run.failed_file),
            "unknown_file": _path(self.run.unknown_file),
            "unsent_file": _path(self.run.unsent_file),
            "reasons": [asdict(group) for group in self.reasons],
            "warnings": self.warnings,
        }


def _path(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def conclude(
    run: Run,
    plan: Plan,
    journal: Journal,
    ended: Ended | None = None,
    *,
    source: Any = None,  # noqa: ANN401 - any frame
) -> RunReport:
    """Write the result files and the summary of a run as it stands."""
    found, missing = write_results(run, plan, journal, source)
    finished = report(run, plan, journal, found, ended)
    if missing:
        finished.warnings.append(f"The result files have no input columns. {missing}.")
    write_summary(run, finished.as_json())
    if ended is not None and ended.error is not None and not isinstance(ended.error, PaystackError):
        raise ended.error
    return finished


def report(
    run: Run, plan: Plan, journal: Journal, found: Tally | None = None, ended: Ended | None = None
) -> RunReport:
    """How a run stands, from its journal; writes nothing."""
    found = found or tally(plan, journal)
    sessions = journal.sessions()
    return RunReport(
        run=run,
        plan=plan,
        counts={outcome: found.counts[outcome] for outcome in Outcome},
        reasons=found.reasons,
        requests=sum(session.requests for session in sessions),
        seconds=sum(s.ended - s.started for s in sessions if s.ended),
        started=utc(sessions[0].started) if sessions else datetime.now(UTC),
        stopped=ended.reason if ended else (sessions[-1].stopped if sessions else None),
        error=ended.error if ended else None,
    )


def rows_left(run: Run) -> int:
    """How many rows of a run are unsent or in doubt, so that a resume has something to do."""
    with run.journal() as journal:
        counts = report(run, run.plan(), journal).counts
    return counts[Outcome.UNSENT] + counts[Outcome.UNKNOWN]
