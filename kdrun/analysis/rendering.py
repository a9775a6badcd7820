"""A table for a terminal, and as CSV, Markdown, LaTeX and HTML."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from kdrun.analysis.latex import latex
from kdrun.analysis.statistics import Over
from kdrun.analysis.table import Column, Grid, Part
from kdrun.utils.cells import guarded_frame
from kdrun.utils.files import write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["FORMATS", "html", "latex", "markdown", "terminal", "tidy", "write"]

LONG: Final = 40  # characters of a text beyond which it may be broken into lines
MARKDOWN: Final = str.maketrans({**{sign: f"\\{sign}" for sign in "\\`*|"},
                                 "&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " "})
STYLE: Final = """\
:root { color-scheme: light dark; --ink: #222; --faint: #555; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --faint: #aaa; --page: #181818; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 110rem;
  color: var(--ink); background: var(--page); }
.table { overflow-x: auto; margin: .5rem 0 1.5rem; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; }
th { border-bottom: 1px solid; text-align: left; vertical-align: bottom; white-space: nowrap; }
th, td { padding: .2rem 1rem .2rem 0; vertical-align: top; }
td { white-space: nowrap; }
td.col0, th.col0 { position: sticky; left: 0; background: var(--page); }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 1.5rem 0 0; }
p, li { color: var(--faint); max-width: 60rem; }
@media (max-width: 40rem) { td.col0, th.col0 { position: static; } }"""


def terminal(grid: Grid, width: int) -> RenderableType:
    """A title, each part below a line with its heading, the notes; fewer columns where those of documents do not fit."""
    narrow = narrowed(grid, width)
    shown: list[RenderableType] = [Text(grid.title, style="bold")]
    for part in grid.parts:
        columns = grid.shown(part, narrow)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        for column, room in zip(columns, widths(columns, part, width), strict=True):
            table.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold", width=room)
        for row in part.rows:
            table.add_row(*(Text(column.show(row)) for column in columns))
        if part.heading:
            shown += [Text(), Text(part.heading, style="bold dim")]
        shown += [Rule(style="dim"), table]
    shown.append(Rule(style="dim"))
    if not any(part.rows for part in grid.parts):
        shown.append(Text(grid.empty))
    shown += [Padding(Text(note, style="dim"), (0, 0, 0, 2)) for note in grid.notes]
    return Group(*shown, Text())


def narrowed(grid: Grid, width: int) -> bool:
    """Whether the columns of documents do not fit."""
    return bool(grid.narrow) and any(needed(grid.shown(part), part) > width for part in grid.parts)


def needed(columns: Sequence[Column], part: Part) -> int:
    """How many characters it takes to show a part without breaking a word, a figure, or what should stand on one line."""
    return sum((unbroken(replace(column, right=True), part) if column.line else unbroken(column, part)) + 2
               for column in columns)


def widths(columns: Sequence[Column], part: Part, width: int) -> list[int]:
    """How wide each column is: figures whole, words whole if they all fit, lines as long as there is room."""
    cells = [[column.title, *(column.show(row) for row in part.rows)] for column in columns]
    longest = [max(len(line) for cell in own for line in cell.split("\n")) for own in cells]
    found = [unbroken(column, part) for column in columns]
    texts = [place for place, column in enumerate(columns) if not column.right]
    room = width - 2 * len(columns)
    while texts and sum(found) > room and max(found[place] for place in texts) > 1:
        found[max(texts, key=lambda place: found[place])] -= 1
    while (wanting := [place for place in texts if found[place] < longest[place]]) and sum(found) < room:
        found[min(wanting, key=lambda place: found[place])] += 1
    return found


def unbroken(column: Column, part: Part) -> int:
    """The widest piece of a column: of a figure a line, of a text a word."""
    cells = [column.title, *(column.show(row) for row in part.rows)]
    return max(len(piece) for cell in cells for piece in (cell.split("\n") if column.right else cell.split() or [""]))


def tidy(grid: Grid) -> "DataFrame":
    """All parts in one, figures unrounded, with a column `part`; a mean is a column with `_sd` and `_n` beside it."""
    import pandas

    return pandas.DataFrame([{**({"part": part.heading} if part.heading else {}), **flat(row)}
                             for part in grid.parts for row in part.rows])


def flat(row: Any) -> dict[str, Any]:
    """A row with plain values."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Over):
            found |= {key: value.mean, f"{key}_sd": value.deviation, f"{key}_n": value.count}
        else:
            found[key] = "+".join(value) if isinstance(value, tuple) else value
    return found


def worded(part: Part, columns: Sequence[Column]) -> "DataFrame":
    """A part's cells in words."""
    import pandas

    return pandas.DataFrame([[column.show(row) for column in columns] for row in part.rows],
                            columns=[column.title for column in columns])


def filled(grid: Grid) -> Iterator[tuple[Part, list[Column], "DataFrame"]]:
    """The parts that have rows, with their columns and their cells in words."""
    for part in grid.parts:
        if part.rows:
            columns = grid.shown(part)
            yield part, columns, worded(part, columns)


def markdown(grid: Grid) -> str:
    """A heading, each part below a smaller one, the notes as a list."""
    lines = [f"## {marked_down(grid.title)}", ""]
    for part, columns, table in filled(grid):
        safe = table.map(marked_down).rename(columns=marked_down)
        kinds = ["right" if column.right else "left" for column in columns]
        lines += [*([f"### {marked_down(part.heading)}", ""] if part.heading else []),
                  safe.to_markdown(index=False, disable_numparse=True, colalign=kinds), ""]
    if not any(part.rows for part in grid.parts):
        lines += [marked_down(grid.empty), ""]
    return "\n".join([*lines, *(f"- {marked_down(note)}" for note in grid.notes)]).rstrip() + "\n"


def marked_down(words: str) -> str:
    """A text for Markdown: no markup, no link and no element of HTML."""
    return re.sub(r"\](?=[(\[:])", r"\]", words.translate(MARKDOWN))


def html_body(grid: Grid) -> str:
    """The tables and notes, without the frame of a page."""
    from html import escape

    from pandas.io.formats.style import Styler

    lines: list[str] = []
    for part, columns, table in filled(grid):
        style = Styler(table, uuid=f"{grid.key}_{len(lines)}", cell_ids=False).hide(axis="index").format(escape="html")
        style.format_index(escape="html", axis=1)
        style.set_table_styles([{"selector": f".col{place}", "props": props} for place, column in enumerate(columns)
                                if (props := appearance(column, part))])
        if part.heading:
            lines.append(f"<h2>{escape(part.heading)}</h2>")
        lines.append(f'<div class="table">\n{style.to_html(table_attributes="").strip()}\n</div>')
    if not lines:
        lines.append(f"<p>{escape(grid.empty)}</p>")
    if grid.notes:
        lines += ["<ul>", *(f"<li>{escape(note)}</li>" for note in grid.notes), "</ul>"]
    return "\n".join(lines)


def appearance(column: Column, part: Part) -> str:
    """How the cells of a column look: figures to the right, long texts in lines that are not too short; empty as usual."""
    if column.right:
        return "text-align: right"
    return "white-space: normal; min-width: 20rem" if any(len(column.show(row)) > LONG for row in part.rows) else ""


def html(grid: Grid) -> str:
    """A page that needs nothing else."""
    from html import escape

    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(grid.title)}</title>\n'
            f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{escape(grid.title)}</h1>\n{html_body(grid)}\n</body>\n</html>\n")


FORMATS: Final[dict[str, Callable[[Grid], str]]] = {
    "csv": lambda grid: guarded_frame(tidy(grid)).to_csv(index=False), "md": markdown, "tex": latex, "html": html,
}


def write(grid: Grid, folder: Path, siunitx: bool = False) -> list[Path]:
    """Write a table in every format; returns the files.

    Args:
        grid: the table.
        folder: where to.
        siunitx: whether figures in LaTeX are in siunitx's columns.
    """
    paths = []
    for kind, make in (FORMATS | {"tex": lambda grid: latex(grid, siunitx)}).items():
        words = make(grid)
        path = folder / f"{grid.key}.{kind}"
        write_atomically(path, lambda part, words=words: part.write_text(words, encoding="utf-8"))  # type: ignore[misc]
        paths.append(path)
    return paths
