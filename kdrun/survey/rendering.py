"""A table for a terminal, and as CSV, Markdown, LaTeX and HTML."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from kdrun.cells import guarded_frame
from kdrun.files import write_atomically
from kdrun.survey.grid import Column, Grid, Part
from kdrun.survey.statistics import Over

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["FORMATS", "html", "latex", "markdown", "terminal", "tidy", "write"]

# What LaTeX takes for a command, and what its default encoding lacks
ESCAPES = str.maketrans({
    **{sign: f"\\{sign}" for sign in "&%$#_{}"}, **{sign: f"${sign}$" for sign in "<>|"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " ", "–": "--", "†": r"\dag{}",
    "±": r"$\pm$", "→": r"$\rightarrow$", "Δ": r"$\Delta$", "≤": r"$\leq$", "·": r"$\cdot$",
})
LATEX_WIDTH = 90  # characters that a page takes upright
STYLE = """\
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; border-top: 2px solid #222; border-bottom: 2px solid #222; }
th { border-bottom: 1px solid #222; text-align: left; vertical-align: bottom; }
th, td { padding: .2rem .7rem .2rem 0; vertical-align: top; }
h2 { font-size: 1rem; margin: 1.5rem 0 0; }
p, li { color: #555; max-width: 60rem; }"""


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
    """How many characters it takes to show a part without breaking a word or a figure."""
    return sum(unbroken(column, part) + 2 for column in columns)


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
    lines = [f"## {grid.title}", ""]
    for part, columns, table in filled(grid):
        safe = table.map(lambda cell: cell.replace("|", r"\|").replace("\n", " "))
        kinds = ["right" if column.right else "left" for column in columns]
        lines += [*([f"### {part.heading}", ""] if part.heading else []),
                  safe.to_markdown(index=False, disable_numparse=True, colalign=kinds), ""]
    if not any(part.rows for part in grid.parts):
        lines += [grid.empty, ""]
    return "\n".join([*lines, *(f"- {note}" for note in grid.notes)]).rstrip() + "\n"


def latex(grid: Grid) -> str:
    """A tabular for each part, with booktabs' rules; as wide as the page at most, and on its side where that is too small."""
    wide = any(needed(grid.shown(part), part) > LATEX_WIDTH for part in grid.parts)
    place, packages = ("sidewaystable", "adjustbox,booktabs,rotating") if wide else ("table", "adjustbox,booktabs")
    lines = [f"% \\usepackage{{{packages}}}", f"\\begin{{{place}}}", "\\centering", f"\\caption{{{escaped(grid.title)}}}",
             f"\\label{{tab:{grid.key}}}"]
    for part, columns, table in filled(grid):
        style = table.map(escaped).rename(columns=escaped).style.hide(axis="index")
        kinds = "".join("r" if column.right else "l" for column in columns)
        if part.heading:
            lines += ["", "\\medskip", f"\\textbf{{{escaped(part.heading)}}}\\\\[2pt]"]
        lines += ["\\begin{adjustbox}{max width=\\linewidth}", style.to_latex(hrules=True, column_format=kinds).rstrip(),
                  "\\end{adjustbox}"]
    if not any(part.rows for part in grid.parts):
        lines.append(escaped(grid.empty))
    lines += ["", *(f"\\par\\footnotesize {escaped(note)}" for note in grid.notes), f"\\end{{{place}}}", ""]
    return "\n".join(lines)


def escaped(words: str) -> str:
    """A text for LaTeX."""
    return words.translate(ESCAPES)


def html_body(grid: Grid) -> str:
    """The tables and notes, without the frame of a page."""
    from html import escape

    from pandas.io.formats.style import Styler

    lines: list[str] = []
    for part, columns, table in filled(grid):
        style = Styler(table, uuid=f"{grid.key}_{len(lines)}", cell_ids=False).hide(axis="index").format(escape="html")
        style.format_index(escape="html", axis=1)
        right = ", ".join(f".col{number}" for number, column in enumerate(columns) if column.right)
        style.set_table_styles([{"selector": right, "props": "text-align: right; white-space: nowrap"}])
        if part.heading:
            lines.append(f"<h2>{escape(part.heading)}</h2>")
        lines.append(style.to_html(table_attributes=""))
    if not lines:
        lines.append(f"<p>{escape(grid.empty)}</p>")
    if grid.notes:
        lines += ["<ul>", *(f"<li>{escape(note)}</li>" for note in grid.notes), "</ul>"]
    return "\n".join(lines)


def html(grid: Grid) -> str:
    """A page that needs nothing else."""
    from html import escape

    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(grid.title)}</title>\n'
            f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{escape(grid.title)}</h1>\n{html_body(grid)}\n</body>\n</html>\n")


FORMATS = {
    "csv": lambda grid: guarded_frame(tidy(grid)).to_csv(index=False), "md": markdown, "tex": latex, "html": html,
}


def write(grid: Grid, folder: Path) -> list[Path]:
    """Write a table in every format; returns the files."""
    paths = []
    for kind, make in FORMATS.items():
        words = make(grid)
        path = folder / f"{grid.key}.{kind}"
        write_atomically(path, lambda part, words=words: part.write_text(words, encoding="utf-8"))  # type: ignore[misc]
        paths.append(path)
    return paths
