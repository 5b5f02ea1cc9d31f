"""Who is told, and who must agree: what a `BulkService` needs of its caller."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from paystack_source.errors import ConfigError
from paystack_source.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.plan.question import Question

log = logging.getLogger("paystack_source")


class Console(Protocol):
    """Whoever runs the service: is told, sees progress, and must agree before anything is sent."""

    def warn(self, text: str) -> None:
        """Tell what the user should know although the work goes on."""
        ...

    def progress(self, title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        """A display that is shown while it is entered."""
        ...

    def agree(self, plan: Plan, question: Question) -> None:
        """Return if these rows of the plan may be sent. Raises if not; nothing is sent then."""
        ...


class UnattendedConsole:
    """The `Console` of a program: warnings go to the log, and a guarded plan is refused unless it was approved."""

    def __init__(self, approves: Callable[[Question], bool], advice: str) -> None:
        """`advice` says how to approve."""
        self._approves = approves
        self._advice = advice

    def warn(self, text: str) -> None:
        log.warning(text)

    def progress(self, title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        return Progress(title, total=total, unit=unit)

    def agree(self, plan: Plan, question: Question) -> None:  # noqa: ARG002 - of the protocol
        """Raises `ConfigError` for rows that must be confirmed, or agreed to anew, and were not."""
        if not (question.confirm.needed or question.anew) or self._approves(question):
            return
        what = f"This changes live customers: {'; '.join(question.confirm.limits)}."
        if question.anew:
            what = "The canary stopped this run. Look at its results before it goes on."
        raise ConfigError(what, advice=self._advice)
