"""The bench's rows for people and for spreadsheets."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from kdrun.bench.measure import Row

__all__ = ["shown", "table", "write"]

COLUMNS = ("part", "what", "seconds", "against", "against_seconds", "value", "unit", "bound", "holds")


def shown(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return ""
    return f"{1e3 * seconds:.2f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def compared(row: Row) -> str:
    """What came of the comparison."""
    if row.value is None:
        return ""
    return {"x": f"{row.value:.3f}", "%": f"{100 * row.value:.2f} %", "s": f"{row.value:.2f} s"}[row.unit]


def demanded(row: Row) -> str:
    """What should have come of it."""
    if row.bound is None:
        return ""
    side, limit = row.bound
    return f"{side} " + {"x": f"{limit:g}", "%": f"{100 * limit:g} %", "s": f"{limit:g} s"}[row.unit]


def table(rows: Sequence[Row], title: str) -> Table:
    """All rows."""
    found = Table(title=title, title_justify="left", title_style="bold")
    for name, right in (("part", False), ("what", False), ("time", True), ("against", False), ("time", True),
                        ("ratio", True), ("wanted", False), ("", False)):
        found.add_column(name, justify="right" if right else "left")
    for row in rows:
        verdict = {True: Text("yes"), False: Text("no", style="red"), None: Text()}[row.holds]
        found.add_row(row.part, row.what, shown(row.seconds), row.against, shown(row.against_seconds), compared(row),
                      demanded(row), verdict)
    return found


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows as CSV."""
    from kdrun.evaluation.result_tables import write_csv  # with torch

    write_csv(path, [{"part": row.part, "what": row.what, "seconds": row.seconds, "against": row.against or None,
                      "against_seconds": row.against_seconds, "value": row.value, "unit": row.unit,
                      "bound": demanded(row) or None, "holds": row.holds} for row in rows], COLUMNS)
