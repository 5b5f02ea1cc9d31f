"""`--log-format json`: messages as lines of JSON. And the fields of a run, which `--json` objects have as well."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from paystack_source.settings import dataset_of
from paystack_source.values import INVISIBLE
from paystack_source.warehouse.locations import DUCKDB

FORMATS: Final = ("text", "json")


@dataclass
class RunContext:
    """The fields of every log line and error object. None: not known, or not known yet."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    run_id: str | None = None
    destination: str | None = None
    dataset: str | None = None
    sandbox: bool = False
    account_name: str | None = None
    key: dict[str, str] = field(default_factory=dict)
    """See `SecretKey.provenance`."""

    @classmethod
    def of_words(cls, words: Sequence[str]) -> RunContext:
        """The context from the words of the command line, before click has checked them."""
        account = value_of(words, "--account")
        return cls(
            destination=value_of(words, "--destination") or DUCKDB[0],
            dataset=value_of(words, "--dataset") or dataset_of(account),
            sandbox="--sandbox" in words,
            account_name=account,
        )

    def as_json(self) -> dict[str, Any]:
        """The fields of the run in the object of `--json`."""
        return {
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "run_id": self.run_id,
            "destination": self.destination,
            "dataset": self.dataset,
            **self.account_fields(),
        }

    def account_fields(self) -> dict[str, Any]:
        """The account's name if one was given, and where the key came from once it is known."""
        return ({"account_name": self.account_name} if self.account_name else {}) | self.key

    def line(self, level: str, message: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  # whatever JSON holds
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "run_id": self.run_id,
            "dataset": self.dataset,
            "destination": self.destination,
            **{name: value for name in ("sandbox", "account_name") if (value := getattr(self, name))},
            "message": message,
            **more,
        }


@contextlib.contextmanager
def warnings_to(warn: Callable[[str], None]) -> Iterator[None]:
    """Pass the package's logged warnings to `warn`."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(record.getMessage())

    handler = Shown(logging.WARNING)
    logger = logging.getLogger("paystack_source")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def value_of(words: Sequence[str], switch: str) -> str | None:
    """The last value of a switch among the words of a command line; None without the switch."""
    found = None
    for word, following in zip(words, [*words[1:], None], strict=False):
        if word == switch:
            found = following
        elif word.startswith(f"{switch}="):
            found = word.partition("=")[2]
    return found


def as_line(record: dict[str, Any], *, ascii_only: bool) -> str:
    """A record as one line of JSON, without control and invisible characters."""
    try:
        text = json.dumps(record, default=str, ensure_ascii=ascii_only, allow_nan=False)
    except ValueError:  # JSON has no infinity and no NaN
        finite = json.loads(json.dumps(record, default=str), parse_constant=lambda _name: None)
        text = json.dumps(finite, ensure_ascii=ascii_only)
    return INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n"
