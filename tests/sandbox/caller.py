"""Talks to a sandbox with bare urllib3, so that these tests lean on no client of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass

import urllib3

from tests.events import PATIENCE

CHECK = {
    "first_name": "Ada",
    "last_name": "Obi",
    "type": "bank_account",
    "country": "NG",
    "bvn": "20012345677",
    "bank_code": "007",
    "account_number": "0123456789",
}
AT = 1_750_000_000.0  # where the clock of these tests stands: 2025-06-15T15:06:40Z


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def rows(self):
        return self.json["data"]

    @property
    def meta(self):
        return self.json["meta"]

    @property
    def ids(self):
        return [row["id"] for row in self.rows]


class Caller:
    """One connection pool, no retries, the sandbox's own key unless told otherwise."""

    def __init__(self, sandbox, key=None):
        self.sandbox = sandbox
        self.key = sandbox.secret_key if key is None else key
        self._pool = urllib3.PoolManager(retries=False, timeout=PATIENCE)

    def __call__(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        reply = self._pool.request(method, self.sandbox.url + path, headers=headers, **options)
        return Got(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.data)

    def list(self, **query):
        return self(
            "GET", "/customer", fields={name.rstrip("_"): str(value) for name, value in query.items()}
        )

    def walk(self, **query):
        """Every page of cursor mode, until `next` is nothing."""
        pages, following = [], None
        while True:
            page = self.list(use_cursor="true", **({"next": following} if following else {}), **query)
            pages.append(page)
            following = page.meta.get("next")
            if following in {None, "", "null"} or len(pages) > 500:
                return pages

    def create(self, **body):
        return self("POST", "/customer", json=body)

    def update(self, code, **body):
        return self("PUT", f"/customer/{code}", json=body)

    def fetch(self, part):
        return self("GET", f"/customer/{part}")

    def risk(self, **body):
        return self("POST", "/customer/set_risk_action", json=body)

    def deactivate(self, code):
        return self("POST", "/customer/authorization/deactivate", json={"authorization_code": code})

    def identify(self, part, **changes):
        body = {name: value for name, value in (CHECK | changes).items() if value is not None}
        return self("POST", f"/customer/{part}/identification", json=body)


class Clock:
    """Seconds since 1970 that pass only when told."""

    def __init__(self, now=AT):
        self.now = now

    def __call__(self):
        return self.now


def truth(sandbox):
    """What the sandbox holds, newest first, as a list should give it."""
    return sorted(sandbox.customers_truth(), key=lambda row: (row["createdAt"], row["id"]), reverse=True)
