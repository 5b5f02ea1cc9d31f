"""What the planning tests share: a small copy, a client that only reads, and short ways to plan."""

import datetime as dt
import threading
from types import SimpleNamespace

import pyarrow as pa

from paystack_source.bulk.input.files import open_table
from paystack_source.bulk.plan.copy import arrow_copy
from paystack_source.bulk.plan.planner import PlanOptions, make_plan
from paystack_source.errors import NotFound

NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)


def customer(number, **fields):
    return {
        "customer_code": f"CUS_{number:04d}",
        "email": f"person{number}@shop.ng",
        "id": number,
        "first_name": None,
        "last_name": "Okafor",
        "phone": "08031234567",
        "metadata": None,
        "risk_action": "default",
        "integration": 42,
        "domain": "test",
    } | fields


def copy_of(*customers, as_of=NOW):
    return arrow_copy([{"_last_seen_at": as_of.isoformat(), **c} for c in customers])


class Reader:
    """A client that can only fetch; remembers what it was asked."""

    def __init__(self, *customers, mode="test", base_url="http://127.0.0.1:1"):
        self.held = {c["customer_code"]: c for c in customers}
        self.asked = []
        self.mode = mode
        self.base_url = base_url
        self.key = SimpleNamespace(fingerprint=f"print-{mode}")
        self._lock = threading.Lock()

    def until(self, _check):
        return self

    def fetch(self, key):
        with self._lock:
            self.asked.append(key)
        for c in self.held.values():
            if key == c["customer_code"] or key.lower() == c["email"].lower():
                return SimpleNamespace(data=dict(c))
        raise NotFound("no such customer", http_status=404)


def frame(*rows):
    """A frame of text from dictionaries; a missing field is blank."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def plan(folder, operation, source, *, copy=None, client=None, now=NOW, mode="test", **options):
    """A plan; without a client nothing is read."""
    if client is None:
        client = Reader(mode=mode, base_url="https://api.paystack.co")
        options["refresh"] = "never"
    return make_plan(
        operation,
        open_table(source, sheet=options.pop("sheet", None)),
        out=folder / "it.plan",
        options=PlanOptions(**options),
        copy=copy,
        client=client,
        now=now,
    )


def verdicts(made):
    return [row.verdict for row in made.rows()]
