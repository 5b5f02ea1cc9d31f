"""HTTP around `Paystack`: reads requests, waits, and sends answers, with faults.

aiohttp's low-level server, without its router: `core.route` knows the endpoints. Why this server:
`docs/decisions/sandbox-server.md`.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiohttp import web

from paystack_source.sandbox.answers import Answer
from paystack_source.sandbox.core import Paystack
from paystack_source.sandbox.operations import Call

_GZIP_LEVEL = 1
_PIECES = 8
_GRACE = 0.2  # seconds that open requests get when the sandbox stops
_NAME = "paystack-sandbox"


class _Connections(web.Server):
    """aiohttp's server, which knows the connections that are open still."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # aiohttp's
        super().__init__(*args, **kwargs)
        self._open: set[asyncio.Transport] = set()
        self._stopped = False

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:  # noqa: ANN401
        super().connection_made(handler, transport)
        self._open.add(transport)
        if self._stopped:  # it was accepted in the last moment
            transport.abort()

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:  # noqa: ANN401
        self._open -= {each for each in self._open if each.get_protocol() is handler}
        super().connection_lost(handler, exc)

    async def abort(self) -> None:
        """Close what a client leaves open by not reading: aiohttp waits until everything is sent."""
        self._stopped = True
        for transport in self._open:
            transport.abort()
        await asyncio.sleep(0)  # they are closed in the loop's next round


class Server:
    """Serves one `Paystack` on 127.0.0.1 until told to stop. Lives in one event loop."""

    def __init__(self, paystack: Paystack) -> None:
        self._paystack = paystack
        self._random = random.Random(f"jitter:{paystack.config.seed}")  # noqa: S311  # jitter is no secret
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Make `serve` return. Call it in the loop."""
        self._stopping.set()

    async def serve(self, port: int, listening: Callable[[str], None]) -> None:
        """Listen on `port` (0: a free one), call `listening` with the URL, and go on until `stop`."""
        server = _Connections(self._answer, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, backlog=512).start()
            host, port = runner.addresses[0][:2]
            listening(f"http://{host}:{port}")
            await self._stopping.wait()
        finally:
            await runner.cleanup()
            await server.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read() if request.body_exists else b""
        except web.RequestPayloadError:  # it says that it is compressed, and is not
            body = b"\xff"
        call = Call(
            method=request.method,
            path=request.raw_path.partition("?")[0],  # as sent: rel_url would resolve dots
            query=request.rel_url.query,
            headers=request.headers,
            body=body,
        )
        stats = self._paystack.stats
        stats.in_flight += 1  # only now: a client may stand still for ever before it has sent the whole of it
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        try:
            return await self._answer_in_time(request, call)
        finally:
            stats.in_flight -= 1

    async def _answer_in_time(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        config = self._paystack.config
        wait = config.latency + (self._random.random() * config.jitter if config.jitter else 0.0)
        if wait:  # half on the way in, half on the way out: an answer is older than its arrival
            await self._sleep(wait / 2)
        outcome = self._paystack.handle(call)
        if wait:
            await self._sleep(wait / 2)
        kind = "" if outcome.fault is None else outcome.fault.kind
        if kind.startswith("hang"):  # the client gives up long before the sandbox stops
            await self._stopping.wait()
        if outcome.answer is None or kind == "reset_after":
            return _reset(request)
        if kind == "cut":
            return await _cut(request, outcome.answer)
        if kind == "slow":
            return await self._slow(request, outcome.answer)
        return _whole(request, outcome.answer, compress=config.gzip)

    async def _sleep(self, seconds: float) -> None:
        await (self._paystack.config.sleep or asyncio.sleep)(seconds)

    async def _slow(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        response = _head(answer)
        await response.prepare(request)
        step = max(1, -(-len(answer.body) // _PIECES))
        for begin in range(0, len(answer.body), step):
            await self._sleep(self._paystack.config.slow_body_seconds / _PIECES)
            await response.write(answer.body[begin : begin + step])
        await response.write_eof()
        return response


def _headers(answer: Answer) -> dict[str, str]:
    return {"Server": _NAME, "Content-Type": answer.content_type, **answer.headers}


def _whole(request: web.BaseRequest, answer: Answer, *, compress: bool) -> web.Response:
    body, headers = answer.body, _headers(answer)
    if compress and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = gzip.compress(body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(status=answer.status, body=body, headers=headers)


def _head(answer: Answer) -> web.StreamResponse:
    """A response whose head promises the whole body."""
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
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
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    return web.StreamResponse()
