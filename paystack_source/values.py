"""Functions of plain values that several parts need: times, blanks, JSON text, masking, names in SQL, batches.

They do no I/O and do not depend on Paystack, dlt or a destination.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Final, TypeVar

import msgspec

Item = TypeVar("Item")

_LONGEST_NUMBER: Final = 18  # digits; Python refuses to read some thousands of them

INVISIBLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Control characters, characters that reverse the text around them, and invisible characters."""


def in_utc(time: datetime) -> datetime:
    """The same moment as a plain `datetime` in UTC; a time without a zone is taken as UTC.

    Subclasses such as pendulum's lose their zone in arithmetic with a `timedelta`, so they are not kept.
    """
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return datetime(
        aware.year, aware.month, aware.day, aware.hour, aware.minute, aware.second, aware.microsecond, UTC
    )


def parse_time(value: str | date) -> datetime:
    """A date or a time, or an ISO 8601 text of one, in UTC; no zone means UTC. Raises `ValueError`."""
    try:
        time = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        if not isinstance(time, datetime):
            time = datetime(time.year, time.month, time.day, tzinfo=UTC)
        return in_utc(time)
    except (OverflowError, TypeError):  # the year 0 or 10000, by its zone; pandas' NaT
        raise ValueError("not a time in UTC") from None


def read_time(value: object) -> datetime | None:
    """A date or a time in UTC, as `parse_time` reads it; None if the value is not one."""
    try:
        return parse_time(value) if isinstance(value, str | date) else None
    except ValueError:
        return None


def time_text(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a `Z`, as Paystack writes times. Microseconds are cut."""
    return in_utc(time).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def whole_number(value: object) -> int | None:
    """A number or a text of digits as an integer of 0 or more; None for anything else, also True and 19 digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def is_blank(value: object) -> bool:
    """Whether a field is blank: null, an empty object, or a text of white space only.

    The same rule applies to the cells of an input and to the values at Paystack.
    """
    if isinstance(value, str):
        return value.strip() in {"", "{}"}
    return value is None or value == {}


def json_text(value: object, *, ordered: bool = False) -> str:
    """A JSON value as compact text; `ordered` sorts the keys, so that equal objects give equal text."""
    return msgspec.json.encode(value, order="sorted" if ordered else None).decode()


def as_text(value: object) -> str | None:
    """A text unchanged, null as None, and any other JSON value as JSON."""
    return value if value is None or isinstance(value, str) else json_text(value)


def masked(value: object, *, secret: bool = False) -> str:
    """A masked value: its owner can find it in a file, but nobody else can use it.

    Secrets keep at most their last two characters, all other values their first and last one. Invisible characters
    are left out.
    """
    text = "" if value is None else "".join(filter(str.isprintable, visible(value)))
    if not text:
        return ""
    if secret:
        return f"…{text[-2:]}" if len(text) > 5 else "…"  # noqa: PLR2004  # two characters would be much of a short text
    if "@" in text:
        name, _, domain = text.rpartition("@")
        return f"{name[:1]}…@{domain[:1]}…"
    return f"{text[:1]}…{text[-1:]}" if len(text) > 3 else "…"  # noqa: PLR2004


def visible(text: object) -> str:
    """The text on one line, without the characters in `INVISIBLE`: they could control a terminal."""
    return INVISIBLE.sub("", re.sub(r"[\n\t]", " ", str(text)))


def quoted_name(name: str) -> str:
    """The name of a table or column, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """A text value, quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Slices of at most `size` items, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def duration(seconds: float) -> str:
    """`45 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    minutes, left = divmod(whole, 60)
    if not minutes:
        return f"{whole} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02} min" if hours else f"{minutes} min {left:02} s"


def counted(number: int, what: str, one: str = "", more: str = "") -> str:
    """A number, a noun and a verb in English: `1 row is`, `2 rows are`; `one` and `more` are the verb's two forms."""
    return f"{number:,} {what} {one}".rstrip() if number == 1 else f"{number:,} {what}s {more}".rstrip()
