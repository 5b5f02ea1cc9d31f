"""What can be wrong with an input or a plan: errors that list every bad cell at once, with values masked.

ConfigError (exit 2: nothing was sent)
  InputError        the input cannot be planned; `.problems` names every bad cell
  PlanError         the plan cannot be applied
    EditedPlan        the seal does not fit: the file was changed after it was written, or is no plan
    StalePlan         too old, or made by a version that wrote another format
    WrongAccount      made for another account, key mode or host
    InputChanged      the input file is not the one that was planned
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from paystack_source.api.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN: Final = 20
ALIKE: Final = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` is the physical line in the file; frames give the `row`, from 1.

    `column` is the input's own name for it, "" if the whole row or file is meant. `value` is masked already.
    """

    line: int | None
    column: str
    reason: str
    value: str = ""
    row: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line is not None else f"row {self.row}" if self.row else ""
        where = ", ".join(part for part in (place, self.column) if part)
        said = f"{where}: {self.reason}" if where else self.reason
        return f"{said} ({self.value})" if self.value else said


class InputError(ConfigError):
    """The input cannot be planned.

    `problems` has the first of them in the input's order, `count` is their number.
    """

    default_advice = "Correct the cells named above and plan again."

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
        title = f"{self.count:,} problem{'s' if self.count != 1 else ''} in {name}; nothing was sent:"
        super().__init__("\n  ".join([title, *_summary(self.problems, self.count)]), advice=advice)

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problems,), dict(self.__dict__)


def _summary(problems: Sequence[Problem], count: int) -> list[str]:
    """The problems in words. If there are more than `SHOWN`, so many, and of one kind at most `ALIKE`."""
    if count <= SHOWN:
        return [str(problem) for problem in problems]
    kinds: Counter[tuple[str, str]] = Counter()
    lines: list[str] = []
    for problem in problems:
        kind = problem.column, problem.reason
        if kinds[kind] < ALIKE and len(lines) < SHOWN:
            lines.append(str(problem))
            kinds[kind] += 1
    return [*lines, f"… and {count - len(lines):,} more"]


class PlanError(ConfigError):
    """The plan cannot be applied; nothing was sent."""


class EditedPlan(PlanError):  # noqa: N818  # named by what happened
    """The seal does not fit the file."""


class StalePlan(PlanError):  # noqa: N818  # named by what happened
    """The plan is too old, or another version wrote it."""


class WrongAccount(PlanError):  # noqa: N818  # named by what happened
    """The plan was made for another account, key mode or host."""


class InputChanged(PlanError):  # noqa: N818  # named by what happened
    """The input is not the one that was planned."""


def masked(value: object, *, secret: bool = False) -> str:
    """A value as it may be shown: enough to find it again in one's own file, too little to use.

    Secrets keep at most their last two characters, everything else its first and last one.
    """
    text = "" if value is None else str(value)
    if not text:
        return ""
    if secret:
        return f"…{text[-2:]}" if len(text) > 5 else "…"  # noqa: PLR2004 - a short one would be given away
    if "@" in text:
        name, _, domain = text.rpartition("@")
        return f"{name[:1]}…@{domain[:1]}…"
    return f"{text[:1]}…{text[-1:]}" if len(text) > 3 else "…"  # noqa: PLR2004
