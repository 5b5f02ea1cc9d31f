"""The file of the rows that a plan leaves out: the input's own columns, and what is wrong with each row.

It can be corrected and planned as it is: columns whose names begin with `_` are never read.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from paystack_source.bulk.input.files import write_table
from paystack_source.values import masked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from paystack_source.bulk.input.files import InputTable
    from paystack_source.errors import Problem

COLUMNS: Final = ("_line", "_problem")


def write_left_out(
    table: InputTable, problems: Sequence[Problem], plan_file: Path, secret: Collection[str]
) -> Path:
    """Writes the rows of the input that have problems beside the plan, into a file that was not there before.

    The columns in `secret` are masked: their values rest nowhere.
    """
    why: dict[int, list[str]] = {}
    for problem in problems:
        said = f"{problem.column}: {problem.reason}" if problem.column else problem.reason
        reasons = why.setdefault(problem.row or 0, [])
        if said not in reasons:
            reasons.append(said)
    kept = [(place, name) for place, name in enumerate(table.columns) if name not in COLUMNS]

    def rows() -> Iterator[list[str]]:
        for batch in table.batches():
            for position in range(batch.size):
                row = batch.first_row + position
                if row in why:
                    cells = [(name, batch.columns[place][position].as_py()) for place, name in kept]
                    shown = [masked(cell, secret=True) if name in secret else cell for name, cell in cells]
                    yield [*shown, str(batch.lines[position] if batch.lines else row), "; ".join(why[row])]

    names = (f"{plan_file.stem}.left_out{f'_{n}' if n > 1 else ''}.csv" for n in count(1))
    path = next(path for name in names if not (path := plan_file.with_name(name)).exists())
    write_table(path, [*(name for _, name in kept), *COLUMNS], rows())
    return path
