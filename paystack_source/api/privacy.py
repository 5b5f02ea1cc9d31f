"""Keeps customer data and the key out of messages and tracebacks.

Paystack's messages are for people and may repeat the request. We show them without values: without those of the
request, and without anything that looks like an email, phone, BVN, account number, code or key.

A traceback that shows local variables (rich, Sentry, IPython's verbose mode) would show what the client's own
frames hold: an email in a path, a BVN in a body, the Authorization header. So the public methods have the decorator
`strip_errors`: their errors have no frames of the client, and the remaining frame has deleted its arguments.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

from paystack_source.errors import PaystackSourceError

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_LONGEST = 300
_SHORTEST_VALUE = 3
_END: Any = object()
_PATTERNS = (
    (re.compile(r"\b[sp]k_(?:test|live)_\w+", re.IGNORECASE), "[key]"),
    (re.compile(r"\b(?:CUS|AUTH)_\w+", re.IGNORECASE), "[code]"),
    # From the beginning of a word only, or a long word without an @ would be searched again from each character.
    (re.compile(r"(?<![^\s\"'<>(),;:@])[^\s\"'<>(),;:@]+(?:@|%40)[^\s\"'<>(),;:@]+"), "[email]"),
    # Six digits or more, also in groups: phones, BVNs, account and card numbers.
    (re.compile(r"\+?\d(?:[\s().-]{0,2}\d){5,}"), "[number]"),
)


def redact(text: object, values: Iterable[str] = ()) -> str:
    """The text on one line of at most 300 characters, without `values` and anything that looks personal."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    # The longest first: if "Ada" were removed first, "eze" of "Adaeze" would remain.
    for value in sorted({value for value in values if len(value) >= _SHORTEST_VALUE}, key=len, reverse=True):
        shown = re.sub(re.escape(value), "[value]", shown, flags=re.IGNORECASE)
    shown = " ".join(hide(shown).split())
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def hide(text: str) -> str:
    """The text, of any length and shape, without anything that looks personal."""
    for pattern, name in _PATTERNS:
        text = pattern.sub(name, text)
    return text


def stripped(error: E) -> E:
    """The error without its frames, cause and context. An unexpected error gets a note with files and lines."""
    if isinstance(error, Exception) and not isinstance(error, PaystackSourceError):
        frames = traceback.extract_tb(error.__traceback__)[1:]
        error.add_note(
            "inside: " + " > ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames)
        )
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def strip_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: errors that leave the function have none of its arguments and local variables."""

    @functools.wraps(function)
    def outer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # raised again below, also Ctrl-C
            problem = stripped(error)
        del args, kwargs
        raise problem

    return outer


def strip_iterator_errors(items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator. Its errors have no frames with rows."""
    following = strip_errors(functools.partial(next, items, _END))
    while (item := following()) is not _END:
        yield item
        del item
