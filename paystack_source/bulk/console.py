"""Who is told, and who must agree: what a `BulkService` needs of its caller."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from paystack_source.errors import ConfigError
from paystack_source.progress import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from paystack_source.bulk.plan.plan import Plan
    from paystack_source.bulk.run.runs import Run

log = logging.getLogger("paystack_source")


class Console(Protocol):
    """Whoever runs the service: is told, sees progress, and must agree before anything is sent."""

    def warn(self, text: str) -> None:
        """Tell what the user should know although the work goes on."""
        ...

    def progress(self, title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        """A display that is shown while it is entered."""
        ...

    def agree(self, plan: Plan) -> None:
        """Return if the plan may be sent. Raises if not; nothing is sent then."""
        ...

    def agree_to_resume(self, run: Run) -> None:
        """Return if what is left of the run may be sent. Raises if not; nothing is sent then."""
        ...


class UnattendedConsole:
    """The `Console` of a program: warnings go to the log, and a guarded plan is refused unless it was approved."""

    def __init__(self, approves: Callable[[Plan], bool], advice: str) -> None:
        """`advice` says how to approve; it may name the number of rows as `{rows}`."""
        self._approves = approves
        self._advice = advice

    def warn(self, text: str) -> None:
        log.warning(text)

    def progress(self, title: str, *, total: int | None = None, unit: str = "rows") -> Progress:
        return Silent(title, total=total, unit=unit)

    def agree(self, plan: Plan) -> None:
        """Raises `ConfigError` for a guarded plan that was not approved."""
        guard = plan.header.guard
        if guard.needed and not self._approves(plan):
            raise ConfigError(
                f"This changes {guard.phrase} live customers: {'; '.join(guard.reasons)}.",
                advice=self._advice.format(rows=guard.phrase),
            )

    def agree_to_resume(self, run: Run) -> None:
        """The run was agreed to when it began."""
