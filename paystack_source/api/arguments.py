"""Checks the arguments of the client before anything is sent (no I/O). All functions raise :class:`ConfigError`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from paystack_source.errors import ConfigError
from paystack_source.values import in_utc, time_text, whole_number

Bound: TypeAlias = "date | datetime | str | float"
"""An aware datetime, an ISO text with a time zone, a date or the text of one, or seconds since 1970."""

_Kind = TypeVar("_Kind")

MOST_PER_PAGE = 100
_MOST_PAGES = 10**9
_LONGEST_TIMEOUT = 1e9  # seconds; the system's calls take little more
_TIMES = "Write 2026-01-31 or 2026-01-31T08:00:00Z."


def list_params(  # noqa: PLR0913  # the parameters of the endpoint
    *,
    page: int | str | None = None,
    per_page: int | str = MOST_PER_PAGE,
    use_cursor: bool = False,
    next: str | None = None,  # noqa: A002  # the API's own name
    previous: str | None = None,
    from_: Bound | None = None,
    to: Bound | None = None,
) -> dict[str, str]:
    """The query parameters of `GET /customer`."""
    flags(use_cursor=use_cursor or False)
    params = {"perPage": _whole("per_page", per_page, MOST_PER_PAGE)}
    if sum((page is not None, next is not None, previous is not None)) > 1 or (
        use_cursor and page is not None
    ):
        raise ConfigError(
            "list: give a page number or one cursor (next or previous), not both", operation="list"
        )
    if page is not None:
        params["page"] = _whole("page", page, _MOST_PAGES)
    if use_cursor:
        params["use_cursor"] = "true"
    for name, cursor in (("next", next), ("previous", previous)):
        if cursor is not None:
            if not isinstance(cursor, str) or not cursor.strip() or not cursor.isprintable():
                raise ConfigError(
                    f"list: {name} is not a cursor",
                    advice="Give the text of page.meta.next or page.meta.previous; leave it out for the first page.",
                    operation="list",
                )
            params[name] = cursor
    if from_ is not None:
        params["from"] = bound(from_, "from")
    if to is not None:
        params["to"] = bound(to, "to", up=True)
    return params


def bound(time: Bound, name: str, *, up: bool = False) -> str:
    """A ``from`` or ``to`` bound as the API takes it: ``YYYY-MM-DDTHH:MM:SS.mmmZ`` in UTC, or a date.

    Microseconds are cut, or rounded up with ``up``, so that a window never gets narrower.
    """
    moment = _moment(time, name)
    if not isinstance(moment, datetime):
        return moment.isoformat()
    if moment.tzinfo is None:
        raise ConfigError(
            f"{name} has no time zone", advice="Add one: datetime(..., tzinfo=UTC), or a Z at the end."
        )
    try:
        if up:
            moment = in_utc(moment) + timedelta(microseconds=-moment.microsecond % 1000)
        return time_text(moment)
    except OverflowError:
        raise ConfigError(f"{name} is too far from today for a date", advice=_TIMES) from None


def _moment(time: Bound, name: str) -> date | datetime:
    if isinstance(time, str):
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(time.strip())
            except ValueError:
                continue
        raise ConfigError(f"{name} is not a date: {time[:40]!r}", advice=_TIMES)
    if isinstance(time, date):
        return time
    if isinstance(time, int | float) and not isinstance(time, bool):
        try:
            return datetime.fromtimestamp(time, UTC)
        except (ValueError, OverflowError, OSError):
            raise ConfigError(
                f"{name} is not a number of seconds since 1970", advice="Milliseconds are divided by 1000."
            ) from None
    raise ConfigError(f"{name} is not a date", advice=_TIMES)


def _whole(name: str, value: int | str, most: int) -> str:
    number = whole_number(value.strip() if isinstance(value, str) else value)
    if number and number <= most:
        return str(number)
    raise ConfigError(f"{name} must be a whole number from 1 to {most}", operation="list")


def count_of(name: str, value: object) -> int:
    """A setting that is a whole number, 0 or more; True and False are refused."""
    number = None if isinstance(value, str) else whole_number(value)
    if number is None:
        raise ConfigError(f"{name} must be a whole number, 0 or more")
    return number


def instance_of(name: str, value: object, kind: type[_Kind]) -> _Kind:
    """An argument that has to be of this type."""
    if isinstance(value, kind):
        return value
    raise ConfigError(f"{name} must be of the type {kind.__name__}, not {type(value).__name__}")


def flags(**given: object) -> None:
    """Arguments that must be True or False: Python would take any text as true, even "no"."""
    for name, value in given.items():
        instance_of(name, value, bool)


def timeouts(given: float | tuple[float, float]) -> tuple[float, float]:
    """Seconds to connect, and for the answer."""
    pair = tuple(given) if isinstance(given, tuple | list) else (given, given)
    numbers = [each for each in pair if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(pair) == len(numbers) == 2 and all(0 < each < _LONGEST_TIMEOUT for each in numbers):  # noqa: PLR2004
        return float(numbers[0]), float(numbers[1])
    raise ConfigError("timeout must be seconds: one number, or two (to connect, for the answer)")


def texts(part: str | None, fields: dict[str, Any] | None) -> Iterator[str]:
    """The texts of a request that errors must not repeat: all except the API's own words."""
    if part is not None:
        yield part
    for name, value in (fields or {}).items():
        if name not in {"risk_action", "type", "country"}:
            for leaf in _leaves(value):
                if isinstance(leaf, str | int | float) and not isinstance(leaf, bool):
                    yield str(leaf)


def _leaves(value: object) -> Iterator[object]:
    rest = [value]
    while rest:
        inner = rest.pop()
        if isinstance(inner, dict):
            rest.extend(inner.values())
        elif isinstance(inner, list | tuple):
            rest.extend(inner)
        else:
            yield inner


def check_fields(fields: dict[str, Any], operation: str) -> None:
    """Metadata is an object, and every other field a text."""
    for name, value in fields.items():
        if name == "metadata":
            if value is not None and not isinstance(value, dict):
                raise ConfigError(
                    f"{operation}: metadata must be a dict",
                    advice="Paystack refuses a string; json.loads() it first.",
                    operation=operation,
                )
        elif value is not None:
            require_text(operation, name, value, blank=True)


def require_text(operation: str, name: str, value: object, *, blank: bool = False) -> None:
    """A field must be a text, and unless `blank` is true not a blank one."""
    if not isinstance(value, str) or not (blank or value.strip()):
        raise ConfigError(
            f"{operation}: {name} must be a text{'' if blank else ' that is not blank'}",
            advice="Give numbers as text, with their leading zeros.",
            operation=operation,
        )


def check_email(email: str) -> None:
    """Raise if the text cannot be an email address."""
    name, at, host = email.rpartition("@") if isinstance(email, str) else ("", "", "")
    if (
        not at
        or not name
        or "." not in host.strip(".")
        or any(c.isspace() or not c.isprintable() for c in email)
    ):
        raise ConfigError("create: this is not an email address", operation="create")


def member(kind: type[StrEnum], value: str, name: str) -> str:
    """The value of the enumeration as the API writes it."""
    try:
        return str(kind(value))
    except ValueError:
        pass
    raise ConfigError(f"{name} must be one of: {', '.join(kind)}")
