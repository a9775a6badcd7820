"""Texts in the cells of CSV files, which people open in spreadsheets.

A spreadsheet takes a cell that begins with =, +, - or @ for a formula and computes it, and names of classes, networks and
data sets come from anywhere. An apostrophe before it makes it a text (OWASP, CSV injection); reading takes it off again.
"""

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["guarded", "guarded_frame", "unguarded"]

FORMULA: Final = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def guarded(value: Any) -> Any:
    """A cell as it may be written: a text that a spreadsheet would compute with an apostrophe before it.

    Numbers are left alone, also those written out in a text: a spreadsheet computes nothing else from them.
    """
    if not isinstance(value, str) or not FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def unguarded(text: str) -> str:
    """A cell's text as it was before it was `guarded`."""
    return text[1:] if text.startswith("'") and FORMULA.match(text[1:]) else text


def guarded_frame(table: "DataFrame") -> "DataFrame":
    """A table with every text in it, and every heading, `guarded`."""
    import pandas

    safe = table.rename(columns=guarded)
    for column in safe:
        if safe[column].dtype.kind not in "biufM":
            cells = [guarded(value) for value in safe[column]]
            safe[column] = pandas.Series(cells, index=safe.index, dtype=object)  # whole numbers beside None stay whole
    return safe
