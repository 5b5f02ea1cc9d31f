"""What a run and an orchestrator tell each other through dlt: whether a retry can help, waits, the interval to read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dlt
from dlt.common import logger
from dlt.common.exceptions import TerminalException
from dlt.extract.exceptions import ExtractorException

from paystack_source.api.quota import WAITS
from paystack_source.errors import AccessError, ConfigError
from paystack_source.extract.windows import Window, bounds
from paystack_source.failures import raise_interrupt
from paystack_source.warehouse.dlt_quirks import CheckedCollector, active_pipeline

log = logging.getLogger("paystack_source")


class TerminalSourceError(ExtractorException, TerminalException):
    """Wraps an error for which a retry is useless.

    dlt's `retry_load` looks for a `TerminalException` as the context of `PipelineStepFailed`. dlt wraps an error of a
    resource again, which hides it, unless the error's class is derived from a class of dlt.
    """


@contextmanager
def terminal_errors_in_extract() -> Iterator[None]:
    """For resources: dlt does not retry after a refused key or permission, or a wrong setting."""
    try:
        yield
    except (AccessError, ConfigError) as error:
        raise TerminalSourceError(str(error)) from error


@contextmanager
def terminal_errors() -> Iterator[None]:
    """The same for functions that users call: the error keeps its class, with a `TerminalSourceError` as its context.

    An error that a Ctrl-C caused becomes a `KeyboardInterrupt`.
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
    """The `on_wait` of a client: writes each wait into dlt's log and the progress of the active pipeline."""

    def __init__(self) -> None:
        self._collector: Any = None

    def __call__(self, seconds: float, _endpoint: str, reason: str) -> None:
        """Called by any thread. An error of the collector does not fail the run."""
        if seconds < 1:
            return
        text = f"waiting {seconds:,.0f} s ({WAITS[reason]})"
        logger.info(f"Paystack: {text}")
        if self._collector is not None:
            with suppress(Exception):
                self._collector.update(_WAITS, message=text)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Use it while a resource is extracted. It creates the counter: collectors do so in one thread only."""
        pipeline = active_pipeline()
        if pipeline is not None:
            with suppress(Exception):  # a pipeline that is active but not running has no progress
                collector = CheckedCollector.unchecked(pipeline.collector)
                collector.update(_WAITS, inc=0)
                self._collector = collector
        try:
            yield
        finally:
            self._collector = None


def scheduled_window() -> Window | None:
    """The interval that a scheduler gives to this run; `None` if it gives none, or an empty one."""
    interval = dlt.current.interval()
    if interval is None:
        return None
    start, end = interval
    if start >= end:
        log.warning(
            "The scheduler's interval is empty: it begins and ends at %s. All customers are read. In Airflow 3 "
            "set create_cron_data_intervals, or a schedule that has data intervals.",
            end,
        )
        return None
    return bounds(start, end)
