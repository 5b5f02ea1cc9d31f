"""What a customer's metadata becomes when a row is applied.

Whether Paystack replaces or merges `metadata` on update is not documented. Sending the whole merged object is
right in both cases, so that is what a plan holds; it shows the object before and after.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from paystack_source.bulk.run.readback import canonical, same

ADVICE: Final = (
    "the customer's present metadata is no object, so nothing can be merged into it; use --metadata replace"
)


class NotAnObjectError(ValueError):
    """The present metadata is a list, a number or text."""


def apply(asked: str, held: str | None, how: str) -> tuple[str, str, bool]:
    """The JSON before and after, and whether they are the same.

    `asked` is a JSON object, "" to clear; `held` is JSON or None. `how`: "merge" (the row's keys win), "fill"
    (only keys that are missing or blank), "replace". Keys are those of the top level. Raises
    `NotAnObjectError`.
    """
    present = _decoded(held)
    before = canonical(present).decode()
    wanted: dict[str, Any] = msgspec.json.decode(asked) if asked else {}
    if how != "replace" and asked:
        old = _object(present)
        if how == "fill":
            wanted = {name: value for name, value in wanted.items() if old.get(name) in (None, "")}
        wanted = old | wanted
    elif how == "fill":
        wanted = _object(present)  # to clear is to overwrite
    after = canonical(wanted).decode()
    return before, after, after == before or (not wanted and present in (None, "", {}, "{}", []))


def equal(one: str | None, other: str | None) -> bool:
    """Whether two stored values mean the same."""
    return same(_decoded(one), _decoded(other))


def _object(present: object) -> dict[str, Any]:
    if isinstance(present, str) and present:  # seen: an object that was stored as text
        present = _decoded(present)
    if isinstance(present, dict):
        return present
    if present in (None, "", []):
        return {}
    raise NotAnObjectError


def _decoded(text: str | None) -> object:
    """The value of stored JSON; text that is no JSON is itself."""
    if text is None or not text:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
