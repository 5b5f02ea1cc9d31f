"""`Sandbox`: the server in a thread of its own, with methods to read and change its customers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paystack_source.sandbox import answers
from paystack_source.sandbox.config import (
    DOCUMENTED_LIMIT,
    DOCUMENTED_WINDOW,
    SandboxConfig,
    normalised,
    seconds_of,
)
from paystack_source.sandbox.core import Paystack, Stats
from paystack_source.sandbox.pages import drift
from paystack_source.sandbox.server import Server
from paystack_source.sandbox.store import Store

_DEMO_WINDOW = 2.0


class Sandbox:
    """A Paystack on 127.0.0.1, with its own thread and event loop.

        with Sandbox(customers=500) as sandbox:
            ...  # sandbox.url, sandbox.secret_key

    `customers` are invented when the state is new; an existing `state` file is used as it is. Without a path
    the state is temporary. `until` is the end of the three years the customers were created in (default: the
    clock's now). `port` 0 takes a free one. Further keywords: `SandboxConfig`; `faults` may be text.

    Raises `ValueError` for a switch or value that does not exist, `StateUnusableError` for a state file that
    is in use or foreign, `OSError` when the port is taken.
    """

    def __init__(
        self,
        customers: int = 5_000,
        *,
        state: str | Path | None = None,
        until: datetime | float | str | None = None,
        port: int = 0,
        **switches: Any,  # noqa: ANN401  # SandboxConfig checks them
    ) -> None:
        self._initial = SandboxConfig(**normalised(switches))
        self._customers = customers
        self._state = None if state is None else Path(state)
        self._until = self._initial.clock() if until is None else seconds_of(until)
        self._port = port
        self._paystack: Paystack | None = None
        self._running: _Running | None = None
        self.url = ""

    @classmethod
    def for_demo(
        cls,
        customers: int = 5_000,
        *,
        state: str | Path | None = None,
        **switches: Any,  # noqa: ANN401  # SandboxConfig checks them
    ) -> Self:
        """A sandbox without long waits: the live limit, in a window of two seconds."""
        preset = {"limit": DOCUMENTED_LIMIT["live"], "window_seconds": _DEMO_WINDOW}
        return cls(customers, state=state, **(preset | switches))

    # --- running -------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Fill or open the state and begin to listen; returns when requests are answered."""
        config = self._initial
        store = Store(
            self._state,
            customers=self._customers,
            seed=config.seed,
            domain=config.mode,
            until=self._until,
            integration=config.integration,
        )
        self._paystack = Paystack(store, config)
        try:
            self._running = _Running(self._paystack, self._port)
        except BaseException:
            store.close()
            raise
        self.url = self._running.url
        return self

    def stop(self) -> None:
        """Close the port and the state. Safe to call twice."""
        if self._running is not None:
            self._running.stop()
            self._running = None
            self.paystack.store.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- reading -------------------------------------------------------------------------------------

    @property
    def paystack(self) -> Paystack:
        """The part without a network. Raises `RuntimeError` before `start`."""
        if self._paystack is None:
            raise RuntimeError("the sandbox is not running; use it in a with block or call start()")
        return self._paystack

    @property
    def secret_key(self) -> str:
        """The key that is accepted."""
        return self._initial.secret_key

    @property
    def stats(self) -> Stats:
        """Requests by endpoint, statuses, faults, 429s, most requests at one time."""
        return self.paystack.stats

    @property
    def config(self) -> SandboxConfig:
        """All switches as they are now."""
        return self.paystack.config

    @property
    def state(self) -> Path:
        """The SQLite file."""
        return self.paystack.store.path

    def __len__(self) -> int:
        with self.paystack.lock:
            return len(self.paystack.store)

    def customers_truth(self, *, as_listed: bool = False) -> Iterator[dict[str, Any]]:
        """The customers in the state file, by rising id, read without the code that answers requests.

        `as_listed` applies `new_keys` and `type_drift`, as a list would. Memory stays bounded; customers that
        arrive while this runs are included.
        """
        config = self.config
        last = -1
        self._settle()
        while True:
            with self.paystack.lock:
                records = self.paystack.store.records_after(last)
            if not records:
                return
            last = records[-1]["id"]
            for record in records:
                yield drift(record, config) if as_listed else record

    def _settle(self) -> None:
        """Apply the identity checks that are due, also without a request."""
        with self.paystack.lock:
            self.paystack.store.settle(self.config.clock())

    def customer_truth(self, code: str) -> dict[str, Any]:
        """One customer by code. Raises `KeyError`."""
        self._settle()
        with self.paystack.lock:
            return self.paystack.store.record(self._number(code))

    def authorizations(self, code: str) -> list[str]:
        """The codes of a customer's cards that are still active. Raises `KeyError`."""
        cards = answers.authorizations_of(self.customer_truth(code))
        codes = [str(card["authorization_code"]) for card in cards]
        with self.paystack.lock:
            return [code for code in codes if not self.paystack.store.is_deactivated(code)]

    def write_log(self) -> list[tuple[float, str, str | None, dict[str, Any]]]:
        """Every write that took effect, in order: time, endpoint, customer code, what was set."""
        with self.paystack.lock:
            return self.paystack.store.write_log()

    def repeated_writes(self) -> dict[tuple[str, str | None], int]:
        """Endpoint and customer code of everything written more than once, with the number of times."""
        counts: dict[tuple[str, str | None], int] = {}
        for _, endpoint, code, _ in self.write_log():
            counts[endpoint, code] = counts.get((endpoint, code), 0) + 1
        return {key: count for key, count in counts.items() if count > 1}

    def describe(self) -> str:
        """One line for summaries: the address, the number of customers, the quota, the faults."""
        config = self.config
        documented = DOCUMENTED_LIMIT[config.mode]
        quota = f"quota {config.quota_limit:,} requests per {config.window_seconds:g} s and endpoint"
        if config.quota_limit == 0:
            quota = "no quota"
        if (config.quota_limit, config.window_seconds) != (documented, DOCUMENTED_WINDOW):
            quota += f" (Paystack: {documented} per {DOCUMENTED_WINDOW:g} s with a {config.mode} key)"
        kinds = ", ".join(sorted({fault.kind for fault in config.faults}))
        faults = f", faults: {kinds}" if kinds else ""
        return f"sandbox at {self.url}, {len(self):,} customers, {config.mode} mode, {quota}{faults}"

    # --- changing ------------------------------------------------------------------------------------

    def configure(self, **changes: object) -> None:
        """Change switches while it runs. Raises `ValueError`."""
        self.paystack.configure(self.config.changed(**changes))

    def add_customers(
        self, count: int = 1, *, created_at: datetime | float | str | None = None, **fields: object
    ) -> list[str]:
        """Invent customers created now or at `created_at`; `fields` are set on each. Gives their codes."""
        created = int(self.config.clock() if created_at is None else seconds_of(created_at))
        store, codes = self.paystack.store, []
        with self.paystack.lock, store.at_once():
            for _ in range(count):
                number = store.add(created, created)
                record = store.change(number, fields, created) if fields else store.record(number)
                codes.append(str(record["customer_code"]))
        return codes

    def edit_customer(self, code: str, **fields: object) -> dict[str, Any]:
        """Change fields of a customer as the dashboard would; `updatedAt` becomes now. Raises `KeyError`."""
        with self.paystack.lock:
            return self.paystack.store.change(self._number(code), fields, self.config.clock())

    def _number(self, code: str) -> int:
        number = self.paystack.store.find(code=code)
        if number is None:
            raise KeyError(code)
        return number


class _Running:
    """The thread with the event loop. Raises the error if the server cannot listen."""

    def __init__(self, paystack: Paystack, port: int) -> None:
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._failures: list[BaseException] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(paystack, port), name="paystack-sandbox", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failures:
            self._thread.join()
            raise self._failures[0]

    def stop(self) -> None:
        if self._loop is not None and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join()

    def _run(self, paystack: Paystack, port: int) -> None:
        try:
            asyncio.run(self._serve(paystack, port))
        except BaseException as error:  # noqa: BLE001  # handed to the thread that started us
            self._failures.append(error)
        finally:
            self._ready.set()

    async def _serve(self, paystack: Paystack, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = Server(paystack)
        await self._server.serve(port, self._listening)

    def _listening(self, url: str) -> None:
        self.url = url
        self._ready.set()
