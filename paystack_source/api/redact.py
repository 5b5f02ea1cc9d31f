"""Takes personal data and secrets out of texts that come from Paystack (pure).

Paystack's messages are for people and may echo what was sent. What we show of them keeps the sentence and
loses the values: the values of the request itself, and whatever looks like an email, phone, BVN, account
number, code or key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 300
_SHORTEST_VALUE = 3
_PATTERNS = (
    (re.compile(r"\b[sp]k_(?:test|live)_\w+", re.IGNORECASE), "[key]"),
    (re.compile(r"\b(?:CUS|AUTH)_\w+", re.IGNORECASE), "[code]"),
    (re.compile(r"[^\s\"'<>(),;:@]+(?:@|%40)[^\s\"'<>(),;:@]+", re.IGNORECASE), "[email]"),
    # Six digits or more, also in groups: phones, BVNs, account and card numbers.
    (re.compile(r"\+?\d(?:[\s().-]{0,2}\d){5,}"), "[number]"),
)


def redact(text: object, values: Iterable[str] = ()) -> str:
    """The text on one line of 300 characters at most, without the given values and what looks personal."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    # The longest first, so that "Ada" inside "Adaeze" does not leave "eze" behind.
    for value in sorted({value for value in values if len(value) >= _SHORTEST_VALUE}, key=len, reverse=True):
        shown = re.sub(re.escape(value), "[value]", shown, flags=re.IGNORECASE)
    shown = " ".join(hide(shown).split())
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def hide(text: str) -> str:
    """The text, of any length and shape, without anything that looks personal."""
    for pattern, name in _PATTERNS:
        text = pattern.sub(name, text)
    return text
