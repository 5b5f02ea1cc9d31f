"""A server that answers with exactly the bytes that a test gives it, or breaks off as told."""

import contextlib
import json
import socket
import struct
import threading
import time
from typing import NamedTuple


def reply(status=200, body=b"", reason="X", **headers):
    """The bytes of an HTTP answer; a dict or list body becomes JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ok(data=None, **extra):
    """A success as Paystack writes it."""
    content = {"status": True, "message": "Done", **extra}
    return reply(200, content if data is None else {**content, "data": data})


def refusal(status, message="No", **extra):
    """A refusal as Paystack writes it."""
    return reply(status, {"status": False, "message": message, **extra})


HTML = b"<html><head><title>Just a moment...</title></head><body>cf</body></html>"
RESET = "reset"  # after the request was read, the connection is reset
CLOSE = "close"  # after the request was read, the connection is closed without a word
SILENCE = "silence"  # the request is read and never answered


class Drip(NamedTuple):
    """An answer that never ends: `again` comes every few milliseconds."""

    begin: bytes
    again: bytes


class RawServer:
    """Gives one scripted answer to each request, the last one again and again.

    `requests` holds what arrived, as text. An answer is bytes, or one of the words above.
    """

    def __init__(self, *answers, close_after=False):
        self.answers = list(answers)
        self.requests = []
        self.close_after = close_after  # close each connection after its answer, without saying so
        self.connections = 0
        self.closed = threading.Semaphore(0)  # one for each connection closed after its answer
        self._lock = threading.Lock()
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                buffer += (chunk := _receive(connection))
                if not chunk:
                    return
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].partition(b":")[2]) if lengths else 0
            while len(buffer) < length:
                buffer += _receive(connection)
            body, buffer = buffer[:length], buffer[length:]
            with self._lock:
                self.requests.append((head + b"\r\n\r\n" + body).decode())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == SILENCE:
                continue
            if answer == RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if answer in {RESET, CLOSE}:
                connection.close()
                return
            if isinstance(answer, Drip):
                _drip(connection, answer)
                return
            connection.sendall(answer)
            if self.close_after:
                connection.close()
                self.closed.release()
                return


def _drip(connection, answer):
    with contextlib.suppress(OSError):  # the other side has had enough
        connection.sendall(answer.begin)
        while True:
            connection.sendall(answer.again)
            time.sleep(0.02)


def _receive(connection):
    try:
        return connection.recv(65536)
    except OSError:
        return b""
