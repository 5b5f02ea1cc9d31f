"""HTTP around `Paystack`, and `Sandbox`: the whole thing in a thread of its own, as a context manager."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from paystack_source.sandbox import answers
from paystack_source.sandbox.answers import Answer
from paystack_source.sandbox.config import (
    DOCUMENTED_LIMIT,
    DOCUMENTED_WINDOW,
    SandboxConfig,
    normalised,
    seconds_of,
)
from paystack_source.sandbox.core import Paystack, Stats
from paystack_source.sandbox.operations import Call
from paystack_source.sandbox.pages import drift
from paystack_source.sandbox.store import Store

_GZIP_LEVEL = 1
_PIECES = 8


class Sandbox:
    """A Paystack on 127.0.0.1, in a thread and event loop of its own.

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
        **switches: Any,
    ) -> None:
        self._initial = SandboxConfig(**normalised(switches))
        self._customers = customers
        self._state = None if state is None else Path(state)
        self._until = self._initial.clock() if until is None else seconds_of(until)
        self._port = port
        self._paystack: Paystack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._random = random.Random(f"jitter:{self._initial.seed}")  # noqa: S311 - jitter is no secret
        self.url = ""

    @classmethod
    def for_demo(cls, customers: int = 5_000, *, state: str | Path | None = None, **switches: Any) -> Self:
        """A sandbox nobody has to wait for: the live limit, in a window of two seconds."""
        return cls(
            customers, state=state, **({"limit": DOCUMENTED_LIMIT["live"], "window_seconds": 2.0} | switches)
        )

    # --- running -------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Fill or open the state and begin to listen; returns when requests are answered."""
        config = self._initial
        store = Store(
            self._state, customers=self._customers, seed=config.seed, domain=config.mode, until=self._until
        )
        self._paystack = Paystack(store, config)
        ready: threading.Event = threading.Event()
        failed: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(ready, failed), name="paystack-sandbox", daemon=True
        )
        self._thread.start()
        ready.wait()
        if failed:
            self._thread.join()
            store.close()
            raise failed[0]
        return self

    def stop(self) -> None:
        """Close the port and the state. Safe to call twice."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self.paystack.store.close()
        self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, ready: threading.Event, failed: list[BaseException]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that called start
            failed.append(error)
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._stopping = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self._port, shutdown_timeout=0.2, backlog=512)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            self._loop = asyncio.get_running_loop()
            ready.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    # --- one request ---------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        stats = self.stats
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        try:
            return await self._answer_in_time(request)
        finally:
            stats.in_flight -= 1

    async def _answer_in_time(self, request: web.BaseRequest) -> web.StreamResponse:
        config = self.paystack.config
        body = await request.read() if request.body_exists else b""
        wait = config.latency + (self._random.random() * config.jitter if config.jitter else 0.0)
        if wait:  # half on the way in, half on the way out: an answer is older than its arrival
            await self._sleep(wait / 2)
        url = request.rel_url
        outcome = self.paystack.handle(
            Call(request.method, url.raw_path, url.query, _Headers(request.headers), body)
        )
        if wait:
            await self._sleep(wait / 2)
        kind = "" if outcome.fault is None else outcome.fault.kind
        if outcome.answer is None:
            if kind.startswith("hang"):
                await self._silence()
            return _reset(request)
        if kind == "reset_after":
            return _reset(request)
        if kind == "cut":
            return await _cut(request, outcome.answer)
        if kind == "slow":
            return await self._slow(request, outcome.answer)
        return _response(request, outcome.answer, compress=config.gzip)

    async def _sleep(self, seconds: float) -> None:
        await (self.paystack.config.sleep or asyncio.sleep)(seconds)

    async def _silence(self) -> None:
        """Until the sandbox stops; the client will have given up long before."""
        await self._stopping.wait()

    async def _slow(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        response = _head(answer)
        await response.prepare(request)
        step = max(1, -(-len(answer.body) // _PIECES))
        for begin in range(0, len(answer.body), step):
            await self._sleep(self.paystack.config.slow_body_seconds / _PIECES)
            await response.write(answer.body[begin : begin + step])
        await response.write_eof()
        return response

    # --- looking and touching from outside -----------------------------------------------------------

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
        return self.paystack.config

    @property
    def state(self) -> Path:
        """The SQLite file."""
        return self.paystack.store.path

    def __len__(self) -> int:
        with self.paystack.lock:
            return len(self.paystack.store)

    def configure(self, **changes: Any) -> None:
        """Change switches while it runs."""
        self.paystack.configure(self.config.changed(**changes))

    def customers_truth(self, *, as_listed: bool = False) -> Iterator[dict[str, Any]]:
        """What the state file holds, by rising id, read past everything that answers requests.

        `as_listed` applies `new_keys` and `type_drift`, as a list would.
        """
        with self.paystack.lock:
            records = list(self.paystack.store.records())
        config = self.config
        for record in records:
            yield drift(record, config) if as_listed and (config.new_keys or config.type_drift) else record

    def customer_truth(self, code: str) -> dict[str, Any]:
        """One customer by code. Raises `KeyError`."""
        with self.paystack.lock:
            number = self.paystack.store.find(code=code)
            if number is None:
                raise KeyError(code)
            return self.paystack.store.record(number)

    def authorizations(self, code: str) -> list[str]:
        """The codes of a customer's cards that are still active."""
        store = self.paystack.store
        cards = answers.authorizations_of(self.customer_truth(code))
        with self.paystack.lock:
            codes = [str(card["authorization_code"]) for card in cards]
            return [code for code in codes if not store.is_dead(code)]

    def add_customers(
        self, count: int = 1, *, created_at: datetime | float | str | None = None, **fields: Any
    ) -> list[str]:
        """Invent customers created now or at `created_at`; `fields` are set on each. Gives their codes."""
        config = self.config
        now = int(config.clock())
        created = now if created_at is None else int(seconds_of(created_at))
        codes = []
        with self.paystack.lock:
            store = self.paystack.store
            for _ in range(count):
                number = store.add(created, created)
                codes.append(
                    str(
                        (store.change(number, fields, created) if fields else store.record(number))[
                            "customer_code"
                        ]
                    )
                )
        return codes

    def edit_customer(self, code: str, **fields: Any) -> dict[str, Any]:
        """Change any field of a customer as if the dashboard did; `updatedAt` becomes now. Raises `KeyError`."""
        with self.paystack.lock:
            number = self.paystack.store.find(code=code)
            if number is None:
                raise KeyError(code)
            return self.paystack.store.change(number, fields, self.config.clock())

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
        """One line for summaries: where, how many customers, which quota, which trouble."""
        config = self.config
        documented = DOCUMENTED_LIMIT[config.mode]
        if config.quota_limit == 0:
            quota = "no quota"
        else:
            quota = f"quota {config.quota_limit:,} requests per {config.window_seconds:g} s and endpoint"
        if (config.quota_limit, config.window_seconds) != (documented, DOCUMENTED_WINDOW):
            quota += f" (Paystack: {documented} per {DOCUMENTED_WINDOW:g} s with a {config.mode} key)"
        trouble = (
            f", faults {', '.join(sorted({fault.kind for fault in config.faults}))}" if config.faults else ""
        )
        return f"sandbox at {self.url}, {len(self):,} customers, {config.mode} mode, {quota}{trouble}"


class _Headers(Mapping[str, str]):
    """Lower-case lookups in aiohttp's case-insensitive headers, without copying them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return self._headers[name]

    def __iter__(self) -> Iterator[str]:
        return (name.lower() for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def _response(request: web.BaseRequest, answer: Answer, *, compress: bool) -> web.Response:
    body, headers = (
        answer.body,
        {"Server": "paystack-sandbox", "Content-Type": answer.content_type, **answer.headers},
    )
    if compress and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(status=answer.status, body=body, headers=headers)


def _head(answer: Answer) -> web.StreamResponse:
    """A response whose head promises the whole body."""
    headers = {"Server": "paystack-sandbox", "Content-Type": answer.content_type, **answer.headers}
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body)
    return response


async def _cut(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = _head(answer)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection with a TCP reset instead of an answer."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.StreamResponse()
