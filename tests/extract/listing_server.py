"""A list of customers over HTTP that may answer wrongly: a cache that ignores the question, totals that only look right."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def stamp(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def customer(number):
    at = stamp(NOON + timedelta(seconds=number))
    return {
        "integration": 7,
        "domain": "test",
        "id": number,
        "customer_code": f"CUS_{number:015}",
        "email": f"c{number}@example.com",
        "risk_action": "default",
        "metadata": None,
        "createdAt": at,
        "updatedAt": at,
    }


class Listing:
    """Answers as documented, unless `heard` loses part of a question or `meta` says something else.

    Args:
        customers: How many there are.
        heard: What reaches the list of a question's parameters.
        meta: The meta, made of the question as it was heard, the documented meta and the rows.
        rows: The rows, made of the question as it was heard and the rows that are right.

    """

    def __init__(self, customers, heard=lambda q: q, meta=lambda _q, m, _rows: m, rows=lambda _q, rows: rows):
        self.customers = [customer(n) for n in range(1, customers + 1)]
        self.heard, self.meta, self.rows = heard, meta, rows
        self.requests = 0

    def answer(self, question):
        self.requests += 1
        question = self.heard(dict(question))
        chosen = [
            c
            for c in reversed(self.customers)
            if question.get("from", "") <= c["createdAt"] < question.get("to", "9")
        ]
        size = min(int(question.get("perPage", 50)), 100)
        cursors = question.get("use_cursor") == "true" or "next" in question
        start = (int(question.get("page", 1)) - 1) * size
        if cursors:
            start = next((i for i, c in enumerate(chosen) if str(c["id"]) == question.get("next")), 0)
        rows = self.rows(question, chosen[start : start + size])
        following = str(chosen[start + size]["id"]) if start + size < len(chosen) else None
        meta = {"total": len(chosen), "page": start // size + 1, "perPage": size, "next": following}
        return rows, self.meta(question, meta, rows)

    def __enter__(self):
        listing = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 100_000  # one packet an answer

            def do_GET(self):
                rows, meta = listing.answer(parse_qsl(urlsplit(self.path).query))
                body = {"status": True, "message": "Customers retrieved", "data": rows, "meta": meta}
                self.send_response(200)
                body = json.dumps(body).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def without(*names):
    """A cache that leaves these out of its key."""
    return lambda question: {name: value for name, value in question.items() if name not in names}


def only(**said):
    """A meta that says this and nothing else."""
    return lambda _question, _meta, _rows: said


def forgetting(*names):
    return lambda _question, meta, _rows: {name: value for name, value in meta.items() if name not in names}
