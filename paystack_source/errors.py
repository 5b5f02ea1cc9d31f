"""All errors of the package. Their classes say what the caller should do.

    PaystackSourceError            exit 1  base of everything below: message, advice, exit code, details
    |-- UsageError                 exit 2  the command cannot run as it was typed; nothing was sent
    |-- NotCompleteError           exit 5  the copy could not be proven complete
    |-- AlreadyRunningError        exit 1  another run works on the same pipeline
    |-- JournalError               exit 1  the journal of a bulk run cannot be read
    |   `-- EditedJournalError     exit 1          it was changed by somebody else
    |-- BrokenOffError             exit 1  a bulk run ended in the middle, by a full disk or a bug: resume it
    |-- StoppedError               exit 1  a bulk run from dlt ended before all rows were sent
    `-- PaystackError              exit 1  what the client and the bulk helpers raise
        |-- ConfigError            exit 2  fix the call or the settings; nothing was sent
        |   |-- ClosedError        exit 2          the client was closed
        |   |-- InputError         exit 2          the input cannot be planned: each bad cell is named
        |   |-- PlanError          exit 2          the plan cannot be applied
        |   |   |-- EditedPlan     exit 2                  its seal does not fit
        |   |   |-- StalePlan      exit 2                  too old, or written by another version
        |   |   |-- WrongAccount   exit 2                  made for another account, key mode or host
        |   |   `-- InputChanged   exit 2                  the input is not the one that was planned
        |   |-- BusyError          exit 2          another process applies this plan or this run
        |   |-- AppliedError       exit 2          the plan was applied before
        |   `-- NoSuchRunError     exit 2          there is no run of that name
        |-- AccessError            exit 4  stop: the next request would be refused as well
        |   |-- KeyRefused         exit 4          401: give another key
        |   `-- PermissionRefused  exit 4          403: ask Paystack, or fix the IP allow-list
        |-- Rejected               exit 3  Paystack looked at this request and said no; others may pass
        |   |-- NotFound           exit 3          404: there is no such customer or authorization
        |   `-- AlreadyValidated   exit 3          an identity check was made before with the same credentials
        |-- RateLimited            exit 1  429 until the retries ended; certainly not applied
        |-- Unavailable            exit 1  no usable answer; a write was certainly not applied
        `-- OutcomeUnknown         exit 3  a write left and its effect is unknown: read it back first

No error holds customer data or the key: `paystack_source.api.privacy` redacts texts that come from Paystack, and
the request itself is never kept. `docs/errors.md` has the same tree with examples; a test keeps the two in step.
`paystack_source.failures` explains the errors of other libraries (dlt, DuckDB, the system).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

__all__ = [
    "AccessError",
    "AlreadyRunningError",
    "AlreadyValidated",
    "AppliedError",
    "BusyError",
    "ClosedError",
    "ConfigError",
    "EditedPlan",
    "InputChanged",
    "InputError",
    "KeyRefused",
    "NoSuchRunError",
    "NotCompleteError",
    "NotFound",
    "OutcomeUnknown",
    "PaystackError",
    "PaystackSourceError",
    "PermissionRefused",
    "PlanError",
    "RateLimited",
    "Rejected",
    "StalePlan",
    "Unavailable",
    "WrongAccount",
]

SHOWN: Final = 20
"""The most problems that an `InputError` names; all are counted."""

_SHOWN_PER_KIND: Final = 5


class ExitCode(IntEnum):
    """The exit codes of the commands (docs/exit-codes.md)."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    ROWS_FAILED = 3
    REFUSED = 4
    UNPROVEN = 5
    INTERRUPTED = 130


class PaystackSourceError(Exception):
    """Base of all errors of this package.

    `message` is one sentence, `advice` what to do next, `exit_code` what a command ends with. `details` go into the
    JSON object that a `--json` run ends with. None of them holds customer data or the key.
    """

    exit_code: int = ExitCode.UNEXPECTED
    default_advice: ClassVar[str] = "Run again with PAYSTACK_TRACEBACK=1 and report what it shows."

    def __init__(
        self,
        message: str,
        advice: str | None = None,
        *,
        exit_code: int | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        self.details = dict(details or {})
        if exit_code is not None:
            self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, so that a worker process can hand the error back."""
        return type(self), (self.message,), dict(self.__dict__)


class UsageError(PaystackSourceError):
    """The command cannot run as it was typed. Nothing was sent."""

    exit_code = ExitCode.USAGE
    default_advice = "See --help."


class NotCompleteError(PaystackSourceError):
    """The copy could not be proven complete."""

    exit_code = ExitCode.UNPROVEN
    default_advice = "Run again; what was proven is kept."


class AlreadyRunningError(PaystackSourceError):
    """Another run works on the same pipeline."""

    default_advice = "Wait for it to end."


class JournalError(PaystackSourceError):
    """The journal of a run cannot be read: another program or a newer version wrote it, or it was edited."""

    default_advice = "Keep the folder as it is, and use the version that made it."


class EditedJournalError(JournalError):
    """The journal was edited, so it no longer proves what was sent."""

    default_advice = (
        "Do not resume or undo this run, and keep its folder. Paystack alone knows what was applied: "
        "plan the input again with --refresh live, which compares each row with it."
    )


class BrokenOffError(PaystackSourceError):
    """A full disk or a bug ended a session. Its journal has what was sent; a new plan could send that twice."""

    default_advice = "Resume the run."


class StoppedError(PaystackSourceError):
    """A run of the dlt destination ended before all rows were sent. dlt retries the file, which resumes the run."""

    default_advice = "Run the pipeline again: it resumes the run."


class PaystackError(PaystackSourceError):
    """A call of the client or of a bulk helper failed.

    ``http_status``, ``type``, ``code`` and ``next_step`` (``meta.nextStep``) are from Paystack's answer, and None if
    there was none. ``operation`` is the name of the operation, such as ``update``. ``meta`` is the answer's, with its
    texts redacted; ``headers`` are the answer's, without cookies and addresses.
    """

    def __init__(  # noqa: PLR0913  # every part of Paystack's error body, by name
        self,
        message: str,
        advice: str | None = None,
        *,
        http_status: int | None = None,
        type: str | None = None,  # noqa: A002  # Paystack's own name for it
        code: str | None = None,
        next_step: str | None = None,
        operation: str | None = None,
        meta: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        answered = {"http_status": http_status, "type": type, "code": code, "next_step": next_step}
        super().__init__(message, advice, details={k: v for k, v in answered.items() if v is not None})
        self.http_status = http_status
        self.type = type
        self.code = code
        self.next_step = next_step
        self.operation = operation
        self.meta = meta
        self.headers = headers

    def __str__(self) -> str:
        """The message, the facts that Paystack gave, and the advice, on one line."""
        facts = [f"HTTP {self.http_status}"] if self.http_status else []
        facts += [fact for fact in (self.type, self.code) if fact]
        text = f"{self.message} ({', '.join(facts)})" if facts else self.message
        return f"{text}. {self.advice}".replace("..", ".") if self.advice else text


class ConfigError(PaystackError):
    """The key, a setting or an argument is wrong. Nothing was sent."""

    exit_code = ExitCode.USAGE
    default_advice = "Correct it and run again; nothing was sent."


class ClosedError(ConfigError):
    """The client was closed, or its work was stopped: this request was certainly not applied."""

    default_advice = "Make a new client, or close it later."


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of an input. `line` is the physical line in the file, from 1; for frames `row` counts from 1.

    `column` is the column's name in the input, "" if the whole row or file is wrong. `value` is masked.
    """

    line: int | None
    column: str
    reason: str
    value: str = ""
    row: int | None = None

    def __str__(self) -> str:
        row = f"line {self.line}" if self.line is not None else f"row {self.row}" if self.row else ""
        where = ", ".join(part for part in (row, self.column) if part)
        text = f"{where}: {self.reason}" if where else self.reason
        return f"{text} ({self.value})" if self.value else text


class InputError(ConfigError):
    """The input cannot be planned.

    `problems` are the first problems in the input's order, `count` is the number of all problems.
    """

    default_advice = "Correct the cells named above and plan again."
    _advice_for_file = (
        "Save it again with the names of the columns in its first row (docs/bulk-input.md), and plan again."
    )

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        count: int | None = None,
        name: str = "the input",
        advice: str | None = None,
    ) -> None:
        self.problems = list(problems)
        self.count = len(self.problems) if count is None else count
        self.name = name
        if not any(problem.line or problem.row or problem.column for problem in problems):
            advice = advice or self._advice_for_file
        title = f"{self.count:,} problem{'s' if self.count != 1 else ''} in {name}; nothing was sent:"
        super().__init__("\n  ".join([title, *_summary(self.problems, self.count)]), advice=advice)

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problems,), dict(self.__dict__)


def _summary(problems: Sequence[Problem], count: int) -> list[str]:
    """The problems as lines of text: at most `SHOWN` of them, and then at most `_SHOWN_PER_KIND` of one kind."""
    if count <= SHOWN:
        return [str(problem) for problem in problems]
    kinds: Counter[tuple[str, str]] = Counter()
    lines: list[str] = []
    for problem in problems:
        kind = problem.column, problem.reason
        if kinds[kind] < _SHOWN_PER_KIND and len(lines) < SHOWN:
            lines.append(str(problem))
            kinds[kind] += 1
    return [*lines, f"… and {count - len(lines):,} more"]


class PlanError(ConfigError):
    """The plan cannot be applied; nothing was sent."""


class EditedPlan(PlanError):
    """The seal is not that of the file."""


class StalePlan(PlanError):
    """The plan is too old, or another version wrote it."""


class WrongAccount(PlanError):
    """The plan was made for another account, key mode or host."""


class InputChanged(PlanError):
    """The input is not the one that was planned."""


class BusyError(ConfigError):
    """Another process is applying this plan or this run."""

    default_advice = "Wait until it ends."


class AppliedError(ConfigError):
    """The plan was applied before; a plan is good for one run.

    `goes_on`: the advice ends with the command that resumes that run.
    """

    default_advice = "Resume its run, or plan again."

    def __init__(
        self, message: str, *, advice: str | None = None, run_id: str = "", goes_on: bool = False
    ) -> None:
        super().__init__(message, advice)
        self.details = {"run_id": run_id}
        self.goes_on = goes_on


class NoSuchRunError(ConfigError):
    """There is no run of that name here."""

    default_advice = "See `bulk.py status` for the runs."


class AccessError(PaystackError):
    """Paystack refused the key or the permission: every further request would be refused as well."""

    exit_code = ExitCode.REFUSED
    default_advice = "Stop, and check the key and what the integration may do."


class KeyRefused(AccessError):
    """HTTP 401: Paystack does not know this key."""

    default_advice = "Copy the secret key again from the Paystack dashboard, Settings > API Keys & Webhooks."


class PermissionRefused(AccessError):
    """HTTP 403: the key is known, but may not do this."""

    default_advice = "Ask Paystack support to enable this for your integration, or use another operation."


class Rejected(PaystackError):
    """Paystack looked at the request and refused it (4xx, or ``status: false``). It was not applied."""

    exit_code = ExitCode.ROWS_FAILED
    default_advice = "Correct this request; sending it again as it is cannot help."


class NotFound(Rejected):
    """HTTP 404: no such customer or authorization under this key."""

    default_advice = "Check the code or email, and that the key's mode (test or live) is the customer's."


class AlreadyValidated(Rejected):
    """The same identity check succeeded before, with the same credentials. Nothing was changed."""

    default_advice = "There is nothing to do: the customer is validated."


class RateLimited(PaystackError):
    """HTTP 429 until the retries ended. The request was certainly not applied."""

    default_advice = (
        "Something else uses the quota of this key: wait a minute, or lower the share of this run."
    )


class Unavailable(PaystackError):
    """No usable answer: no connection, a server error, or a body that is not Paystack's.

    Reads were retried first. A write that ends like this certainly never reached Paystack.
    """

    default_advice = "Check the network and https://status.paystack.com, then run again."


class OutcomeUnknown(PaystackError):
    """A write was sent, and no answer says whether it was applied.

    Do not send it again before you have fetched the customer and compared. The error holds no request data.
    """

    exit_code = ExitCode.ROWS_FAILED
    default_advice = "Fetch the customer and compare before you send it again."
