"""What an orchestrator learns about a run through dlt: whether a retry can help, its waits, and its metrics."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dlt.common import logger
from dlt.common.exceptions import TerminalException
from dlt.extract.exceptions import ExtractorException

from paystack_source.errors import AccessError, ConfigError
from paystack_source.failures import raise_interrupt
from paystack_source.warehouse.dlt_quirks import CheckedCollector, active_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator


class TerminalSourceError(ExtractorException, TerminalException):
    """Wraps an error that a retry cannot help.

    dlt's `retry_load` looks for a `TerminalException` as the context of `PipelineStepFailed`. dlt wraps an error of a
    resource once more, which hides it, unless it is one of dlt's own classes.
    """


@contextmanager
def terminal_errors_in_extract() -> Iterator[None]:
    """Around a resource: after a refused key or permission, and after a wrong setting, dlt does not retry."""
    try:
        yield
    except (AccessError, ConfigError) as error:
        raise TerminalSourceError(str(error)) from error


@contextmanager
def terminal_errors() -> Iterator[None]:
    """The same around a function that users call: the error keeps its class, and dlt finds the other in its context.

    An error that comes from Ctrl-C leaves as a `KeyboardInterrupt`.
    """
    try:
        yield
    except Exception as error:
        raise_interrupt(error)
        if isinstance(error, AccessError | ConfigError):
            error.__context__, error.__suppress_context__ = TerminalSourceError(str(error)), True
        raise


_WAITS = "Waits for Paystack"


class Waits:
    """The `on_wait` of a client: writes each wait into dlt's log and into the progress of the active pipeline."""

    def __init__(self) -> None:
        self._collector: Any = None

    def __call__(self, seconds: float, _endpoint: str, reason: str) -> None:
        """Called in any thread. An error of the collector does not fail the run."""
        if seconds < 1:
            return
        text = f"waiting {seconds:,.0f} s ({reason.replace('_', ' ')})"
        logger.info(f"Paystack: {text}")
        if self._collector is not None:
            with suppress(Exception):
                self._collector.update(_WAITS, message=text)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Use it while a resource is extracted. The counter is made here: a collector makes it in one thread only."""
        pipeline = active_pipeline()
        if pipeline is not None:
            with suppress(Exception):  # a pipeline that is active and does not run shows nothing
                collector = CheckedCollector.unchecked(pipeline.collector)
                collector.update(_WAITS, inc=0)
                self._collector = collector
        try:
            yield
        finally:
            self._collector = None
