"""What an orchestrator is told of a run through dlt: whether a retry can help, why it waits, and its facts."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common import logger
from dlt.common.exceptions import TerminalException
from dlt.extract.exceptions import CurrentSourceNotAvailable, ExtractorException

from paystack_source.errors import AccessError, ConfigError
from paystack_source.warehouse.dlt_quirks import CheckedCollector, active_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator


class TerminalSourceError(ExtractorException, TerminalException):
    """Around an error that comes again however often the run is repeated.

    dlt's `retry_load` looks for a `TerminalException` as the context of `PipelineStepFailed`. What a resource raises is
    put into an error of dlt's first, which hides it, unless it is one of dlt's own.
    """


@contextmanager
def terminal_errors_in_extract() -> Iterator[None]:
    """In a resource: a refused key or permission, and a wrong setting, end dlt's retries at once."""
    try:
        yield
    except (AccessError, ConfigError) as error:
        raise TerminalSourceError(str(error)) from error


@contextmanager
def terminal_errors() -> Iterator[None]:
    """The same in a function that people call: the error stays what it is, and dlt looks at its context as well."""
    try:
        yield
    except (AccessError, ConfigError) as error:
        error.__context__, error.__suppress_context__ = TerminalSourceError(str(error)), True
        raise


_WAITS = "Waits for Paystack"


class Waits:
    """Hears of each wait of a client, and tells dlt's log and the progress of the pipeline that extracts."""

    def __init__(self) -> None:
        self._collector: Any = None

    def __call__(self, seconds: float, _endpoint: str, reason: str) -> None:
        """From any thread. Whatever the collector does with it, that is no error of the run."""
        if seconds < 1:
            return
        text = f"waiting {seconds:,.0f} s ({reason.replace('_', ' ')})"
        logger.info(f"Paystack: {text}")
        if self._collector is not None:
            with suppress(Exception):
                self._collector.update(_WAITS, message=text)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While a resource is extracted. A collector makes its counters in one thread only, so it is made here."""
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


def current_metrics() -> dict[str, Any]:
    """The facts of the resource that is being extracted, which dlt's trace keeps; nobody does outside of one."""
    try:
        return dlt.current.resource_metrics()
    except CurrentSourceNotAvailable:
        return {}
