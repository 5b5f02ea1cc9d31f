"""Numbers with another number of digits than usual: a plan warns of them, and Paystack judges them.

The only bank details that Paystack takes with a test key have a BVN of 12 digits, where real ones have 11.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES: Final = 5


class UnusualLengths:
    """Counts them by column and by what is usual, and keeps the first places."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], list[str]] = {}

    def note(self, column: str, usual: str, places: Sequence[str]) -> None:
        """More of them; `places` are such as "line 2"."""
        if places:
            self._counts[column, usual] += len(places)
            first = self._first.setdefault((column, usual), [])
            first += places[: _EXAMPLES - len(first)]

    @property
    def warnings(self) -> list[str]:
        """What the plan says of them, without a value."""
        said = []
        for (column, usual), count in self._counts.items():
            first = self._first[column, usual]
            more = f" and {count - len(first):,} more" if count > len(first) else ""
            said.append(
                f"{column!r} has not the usual {usual} in {', '.join(first)}{more}. "
                "Such numbers are sent as they are: Paystack judges them."
            )
        return said
