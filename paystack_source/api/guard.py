"""Keeps customer data and the key out of tracebacks.

A traceback that shows local variables (rich, Sentry, IPython's verbose mode) would show what the client's own
frames hold: an email in a path, a BVN in a body, the Authorization header. The public methods are sealed: an
error leaves them without the frames below, and the frame that had the arguments has dropped them.
"""

from __future__ import annotations

import functools
import traceback
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from paystack_source.errors import PaystackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


def bare(error: E) -> E:
    """The error without frames and the errors behind it; an unexpected one notes where it came from."""
    if isinstance(error, Exception) and not isinstance(error, PaystackError):
        frames = traceback.extract_tb(error.__traceback__)[1:]
        error.add_note(
            "inside: " + " > ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames)
        )
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def sealed(function: Callable[P, T]) -> Callable[P, T]:
    """Make errors leave this function without anything that it was given or held."""

    @functools.wraps(function)
    def outer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # raised again below, also Ctrl-C
            problem = bare(error)
        del args, kwargs
        raise problem

    return outer


def sealed_iterator(items: Iterator[T]) -> Iterator[T]:
    """The same for an iterator: an error leaves it without the frames that held the rows."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except BaseException as error:  # noqa: BLE001  # raised again below
            problem = bare(error)
            break
        yield item
        del item
    del items
    raise problem
