"""A bulk run in one thread, from a seed: a fake Paystack that fails around its effects, kills anywhere."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from paystack_source.bulk.operations import BULK_OPERATIONS
from paystack_source.bulk.plan.plan import PlanRow
from paystack_source.bulk.run.journal import Journal
from paystack_source.bulk.run.runner import Runner, SessionEnd, StopRules
from paystack_source.bulk.run.send import Done, Job, Sender
from paystack_source.bulk.run.states import Outcome, RowState, outcome
from paystack_source.errors import (
    KeyRefused,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    RateLimited,
    Rejected,
    Unavailable,
)

if TYPE_CHECKING:
    from pathlib import Path


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


@dataclass
class World:
    """The seed's randomness, its clock, and how much trouble is on."""

    rng: random.Random
    trouble: float = 0.3
    kills: float = 0.01
    now: float = 1_780_000_000.0

    def clock(self) -> float:
        self.now += self.rng.random()
        return self.now

    def maybe_kill(self) -> None:
        if self.rng.random() < self.kills:
            raise Killed


@dataclass
class FakePaystack:
    """Holds customers, authorizations and identity checks; counts every effect."""

    world: World
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    authorizations: dict[str, tuple[str, bool]] = field(default_factory=dict)  # code -> (customer, active)
    effects: dict[str, int] = field(default_factory=dict)  # what was done, how often, by what names the row
    late: list[Any] = field(default_factory=list)  # effects of lost requests that are still on their way

    def _write(self, name: str, check: Any, effect: Any) -> SimpleNamespace:
        """One write through the weather."""
        world, rng = self.world, self.world.rng
        self._deliver()
        world.maybe_kill()
        luck = rng.random() / world.trouble if world.trouble else 99.0
        if luck < 0.1:
            raise Unavailable("connection refused")
        if luck < 0.2:
            raise RateLimited("Rate limit exceeded!", http_status=429)
        if luck < 0.22:
            raise rng.choice([KeyRefused, PermissionRefused])("refused")
        if luck < 0.4:
            raise OutcomeUnknown("reset before the effect")

        def apply() -> Any:
            self.effects[name] = self.effects.get(name, 0) + 1
            return effect()

        if luck < 0.5 and check() is None:
            self.late.append(apply)
            raise OutcomeUnknown("timed out; the effect comes later")
        error = check()
        if error is not None:
            raise error
        data = apply()
        world.maybe_kill()
        if luck < 0.75:
            raise OutcomeUnknown("reset after the effect")
        return SimpleNamespace(headers={}, status=data.pop("_http", 200), message="ok", data=data.get("data"))

    def _deliver(self) -> None:
        if self.late and self.world.rng.random() < 0.5:
            self.late.pop(0)()

    def _known(self, key: str) -> Any:
        return lambda: (
            None if self._find(key) else NotFound("Customer code/email specified is invalid", http_status=404)
        )

    def _find(self, key: str) -> dict[str, Any] | None:
        return next((c for c in self.customers.values() if key in (c["customer_code"], c["email"])), None)

    def fetch(self, key: str) -> SimpleNamespace:
        self._deliver()
        self.world.maybe_kill()
        if self.world.rng.random() < self.world.trouble * 0.2:
            raise Unavailable("no answer")
        customer = self._find(key)
        if customer is None:
            raise NotFound("Customer code/email specified is invalid", http_status=404)
        listed = [
            {"authorization_code": code, "active": active}
            for code, (owner, active) in self.authorizations.items()
            if owner == customer["customer_code"]
        ]
        return SimpleNamespace(
            headers={}, status=200, message="ok", data={**customer, "authorizations": listed}
        )

    def set_risk_action(self, key: str, risk_action: str) -> SimpleNamespace:
        def effect() -> dict[str, Any]:
            customer = self._find(key)
            assert customer is not None
            customer["risk_action"] = risk_action
            return {"data": dict(customer)}

        return self._write(key, self._known(key), effect)

    def update(self, key: str, **fields: Any) -> SimpleNamespace:
        def effect() -> dict[str, Any]:
            customer = self._find(key)
            assert customer is not None
            customer.update(fields)
            return {"data": dict(customer)}

        return self._write(key, self._known(key), effect)

    def create(self, email: str, **fields: Any) -> SimpleNamespace:
        def effect() -> dict[str, Any]:
            born = datetime.fromtimestamp(self.world.now, UTC).isoformat()
            code = f"CUS_{len(self.customers)}"
            customer = {"customer_code": code, "email": email, "createdAt": born, **fields}
            self.customers.setdefault(email, customer)
            return {"data": dict(self.customers[email])}

        bad = Rejected("Invalid Email Address Passed", http_status=400, code="invalid_email_address")
        return self._write(email, lambda: bad if email.startswith("bad") else None, effect)

    def validate(self, key: str, **_fields: Any) -> SimpleNamespace:
        return self._write(key, self._known(key), lambda: {"_http": 202})

    def deactivate_authorization(self, authorization_code: str) -> SimpleNamespace:
        def check() -> Any:
            gone = not self.authorizations.get(authorization_code, ("", False))[1]
            return NotFound("Authorization code not found.", http_status=404) if gone else None

        def effect() -> dict[str, Any]:
            self.authorizations[authorization_code] = (self.authorizations[authorization_code][0], False)
            return {}

        return self._write(authorization_code, check, effect)


class ShakyJournal(Journal):
    """A journal whose process may die before, in the middle of, or right after a transaction."""

    world: World

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self.world.maybe_kill()
        with super()._transaction():
            yield
            self.world.maybe_kill()
        self.world.maybe_kill()


class OneThread:
    """Workers that perform one job at a time, in an order that the seed picks."""

    def __init__(self, perform: Sender, world: World) -> None:
        self._perform = perform
        self._world = world
        self._jobs: list[Job] = []
        self.most = 0

    @property
    def busy(self) -> int:
        return len(self._jobs)

    def start(self, job: Job, *, width: int) -> None:
        self._world.maybe_kill()
        self._jobs.append(job)
        self.most = max(self.most, len(self._jobs))

    def wait(self) -> list[Done]:
        number = self._world.rng.randint(1, len(self._jobs))
        return [
            self._perform(self._jobs.pop(self._world.rng.randrange(len(self._jobs)))) for _ in range(number)
        ]

    def close(self) -> None:
        pass


SECRETS = {"validate": {"account_number": "0001234567", "bvn": "12345678901"}}


def rows_for(operation: str, server: FakePaystack, number: int) -> list[PlanRow]:
    """Rows of a plan, and a server that knows most of the customers they are about."""
    rng, rows = server.world.rng, []
    for n in range(1, number + 1):
        known = rng.random() < 0.85
        code, email = f"CUS_x{n}", f"{'p' if known else 'bad'}{n}@example.com"
        auth = f"AUTH_{n}"
        if known and operation != "create":
            server.customers[email] = {
                "customer_code": code, "email": email, "risk_action": "default", "first_name": None,
                "createdAt": "2026-01-01T00:00:00.000Z",
            }  # fmt: skip
            server.authorizations[auth] = (code, True)
        new = {
            "risk-action": {"risk_action": "deny"},
            "update": {"first_name": f"Ada {n}"},
            "create": {"first_name": f"Ada {n}"},
            "validate": {"first_name": "Ada", "last_name": "Obi", "country": "NG", "bank_code": "007"},
            "deactivate-authorization": {},
        }[operation]
        key = email if operation == "create" else code
        row = PlanRow(
            row=n, line=n + 1, key=key, customer_code=None if operation == "create" else code, email=email,
            customer_id=None, old=None, new=new, verdict="send",
            secrets={"authorization_code": "…"} if operation == "deactivate-authorization" else {},
        )  # fmt: skip
        rows.append(row)
    return rows


def secrets_of(operation: str, row: PlanRow) -> dict[str, str]:
    if operation == "deactivate-authorization":
        return {"authorization_code": f"AUTH_{row.row}"}
    return SECRETS.get(operation, {})


@dataclass
class Simulation:
    """One seed: a plan, a server, a journal file, sessions that may die."""

    operation: str
    seed: int
    folder: Path
    number: int = 8

    def __post_init__(self) -> None:
        self.world = World(random.Random(f"{self.operation}/{self.seed}"))
        self.server = FakePaystack(self.world)
        self.rows = rows_for(self.operation, self.server, self.number)
        self.path = self.folder / f"{self.operation}-{self.seed}.sqlite"
        self.sessions = 0
        empty = self.folder / "empty.sqlite"
        if not empty.exists():
            Journal.create(empty, {"run_id": "simulated"}, durable=False).close()
        shutil.copyfile(empty, self.path)

    def session(self) -> SessionEnd | None:
        """One process: opens the journal, runs, ends or dies (None)."""
        self.sessions += 1
        journal = ShakyJournal(self.path, durable=False)
        journal.world = self.world
        sender = Sender(
            BULK_OPERATIONS[self.operation], self.server, lambda row: secrets_of(self.operation, row),  # type: ignore[arg-type]
            now=self.world.clock, timer=self.world.clock,
        )  # fmt: skip
        rng = self.world.rng
        rules = StopRules(
            equal_rejections=rng.choice([0, 3]), unknown_window=rng.choice([0, 4]),
            unreachable=rng.choice([0, 3]),
            canary_rows=rng.choice([0, 0, 2]), canary_share=0.5,
        )  # fmt: skip
        runner = Runner(
            BULK_OPERATIONS[self.operation], self.rows, journal, OneThread(sender, self.world), rules=rules,
            now=self.world.clock,
            on_done=lambda *_: runner.stop() if rng.random() < 0.01 else None,
        )  # fmt: skip
        try:
            return runner.run()
        except Killed:
            return None
        finally:
            journal.close()

    def states(self) -> dict[int, RowState]:
        """What a reader of the journal would say about every row."""
        with Journal(self.path, durable=False) as journal:
            return {row.row: journal.state(row.row) for row in self.rows}

    def claims(self) -> dict[int, Outcome]:
        return {row: outcome(state) for row, state in self.states().items()}

    def effect_name(self, row: PlanRow) -> str:
        return f"AUTH_{row.row}" if self.operation == "deactivate-authorization" else row.key

    def holds(self, row: PlanRow) -> bool:
        """Whether the server is as the row wants it."""
        if self.operation == "deactivate-authorization":
            return not self.server.authorizations.get(f"AUTH_{row.row}", ("", False))[1]
        if self.operation == "validate":
            return self.server.effects.get(row.key, 0) > 0
        held = self.server._find(row.key)
        return held is not None and all(held.get(name) == value for name, value in row.new.items())

    def check(self) -> dict[int, Outcome]:
        """Nothing lost, nothing claimed wrongly, nothing unrepeatable done twice; at any moment."""
        claims = self.claims()
        assert sorted(claims) == [row.row for row in self.rows]
        for row in self.rows:
            done = self.server.effects.get(self.effect_name(row), 0)
            claim = claims[row.row]
            where = (self.operation, self.seed, row.row, claim, done)
            if claim in (Outcome.APPLIED, Outcome.ACCEPTED_PENDING):
                assert self.holds(row), where
            if claim in (Outcome.REJECTED, Outcome.UNSENT):
                assert done == 0, where
            if not BULK_OPERATIONS[self.operation].repeatable:
                assert done <= 1, where
        return claims

    def to_the_end(self) -> dict[int, Outcome]:
        """Sessions until one ends by itself in good weather."""
        for _ in itertools.count():
            if self.sessions >= 6:
                self.world.trouble = self.world.kills = 0.0
            ended = self.session()
            claims = self.check()
            if self.sessions >= 20:
                raise AssertionError(f"does not come to an end: {self.operation}/{self.seed} {ended}")
            if ended is not None and ended.reason is None and self.world.trouble == 0.0:
                with Journal(self.path, durable=False) as journal:
                    journal.verify()
                return claims
            if ended is not None and ended.reason is None and self.world.rng.random() < 0.5:
                self.world.trouble = self.world.kills = 0.0
        raise AssertionError
