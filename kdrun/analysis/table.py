"""A table in parts that are never ranked together, and how its cells are worded."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrun.analysis.statistics import Over, interval

__all__ = ["NONE", "WEAK", "Column", "Grid", "Part", "limits", "number", "signed", "spread", "text", "with_interval",
           "with_mark"]

NONE = "–"
WEAK = "!"  # behind a method whose teacher is no better than the student alone
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column as it is shown.

    Attributes:
        title: its head.
        show: a row's cell in words.
        right: whether to align to the right, unbroken.
        optional: whether to leave it out of a part that has nothing in it.
        best: what the best row is largest in, None for a row that is not compared; without it nothing is compared.
        note: what stands in a note below a printed table, a letter in the cell pointing there; empty for no note.
        line: whether its texts should stand on one line each: rather than break them a terminal shows fewer columns.
    """

    title: str
    show: Callable[[Row], str]
    right: bool = False
    optional: bool = False
    best: Callable[[Row], float | None] | None = None
    note: Callable[[Row], str] | None = None
    line: bool = False

    def has(self, part: "Part") -> bool:
        """Whether it says anything about any row of a part."""
        return any(self.show(row) not in ("", NONE) for row in part.rows)


@dataclass(frozen=True)
class Part:
    """Rows that may be compared with each other, below a heading that says what they share.

    Attributes:
        heading: what they share; empty where the table has one part.
        rows: the figures, unrounded.
        comparable: whether the rows were measured under the same conditions.
    """

    heading: str
    rows: Sequence[Row]
    comparable: bool = True

    def leaders(self, column: Column) -> set[int]:
        """The places of the rows that are best in a column; none where fewer than two differ in it."""
        if column.best is None or not self.comparable:
            return set()
        values = {place: round(value, 12) for place, row in enumerate(self.rows) if (value := column.best(row)) is not None}
        most = max(values.values(), default=None)
        return {place for place, value in values.items() if value == most} if len(set(values.values())) > 1 else set()


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        key: the name of its files.
        title: what it is.
        columns: as documents show it.
        paper: columns for LaTeX, where those of other documents are none for a printed page.
        parts: with a border between them.
        notes: lines below it.
        narrow: columns for a terminal, where those of documents do not fit.
        empty: what to say where there are no rows.
    """

    key: str
    title: str
    columns: Sequence[Column]
    parts: Sequence[Part]
    notes: Sequence[str] = ()
    narrow: Sequence[Column] = ()
    empty: str = ""
    paper: Sequence[Column] = ()

    def shown(self, part: "Part", narrow: bool = False) -> list[Column]:
        """The columns of a part."""
        return [column for column in (narrow and self.narrow) or self.columns if not column.optional or column.has(part)]

    def printed(self, part: "Part") -> list[Column]:
        """The columns of a part on paper, where there is no room for those that say nothing."""
        return [column for column in self.paper or self.columns if column.has(part)]


def text(value: Any) -> str:
    """A text; a dash for None."""
    return NONE if value is None or value != value else str(value)


def number(value: float | None, digits: int, factor: float = 1) -> str:
    """A number with so many decimals; a dash for None."""
    return NONE if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"


def signed(value: float | None, digits: int, factor: float = 1) -> str:
    """A number with its sign; a dash for None."""
    return NONE if value is None or math.isnan(value) else f"{factor * value:+z.{digits}f}"


def spread(value: Over | None, digits: int, factor: float = 1, sign: bool = False) -> str:
    """A mean, with its standard deviation if there is one."""
    if value is None:
        return NONE
    mean = (signed if sign else number)(value.mean, digits, factor)
    return mean if value.deviation is None else f"{mean} ± {number(value.deviation, digits, factor)}"


def with_interval(gap: Over | None, digits: int, factor: float = 1) -> str:
    """A mean gap with its sign, and its confidence interval if there is one."""
    if gap is None:
        return NONE
    mean, ends = signed(gap.mean, digits, factor), interval(gap)
    return mean if ends is None else f"{mean} [{', '.join(signed(end, digits, factor) for end in ends)}]"


def limits(gap: Over | None, key: str) -> dict[str, float | None]:
    """The ends of a gap's confidence interval, as columns of a CSV."""
    low, high = interval(gap) or (None, None)
    return {f"{key}_ci_low": low, f"{key}_ci_high": high}


def with_mark(name: Any, weak: bool) -> str:
    """A method's name, marked where its teacher is no better than the student alone."""
    return f"{text(name)} {WEAK}" if weak else text(name)
