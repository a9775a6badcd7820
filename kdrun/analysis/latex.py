r"""A table as LaTeX: a float for each part, that fits on a page whatever it holds.

It asks for booktabs and adjustbox, for rotating where a part is set on its side, and for siunitx if columns of figures
are to be its S columns.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from kdrun.analysis.table import NONE, Column, Grid, Part

__all__ = ["escaped", "latex"]

# What LaTeX takes for a command, and what its fonts lack
ESCAPES: Final = str.maketrans({
    **{sign: f"\\{sign}" for sign in "&%$#_{}"}, **{sign: f"${sign}$" for sign in "<>|"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}",
    "\n": " ", "\t": " ", "–": "--", "—": "---", "†": r"\dag{}", "±": r"$\pm$", "→": r"$\rightarrow$", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "Δ": r"$\Delta$", "α": r"$\alpha$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "×": r"$\times$",
    "−": "$-$", "…": r"\dots{}", "ⁿ": "$^n$", "²": "$^2$", "“": "``", "”": "''", "‘": "`", "’": "'",
})
MINUS: Final = re.compile(r"(?<![\w.)-])-(?=\.?\d)")  # of a number, and no hyphen of a name
FIGURE: Final = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?(?: ± (?=[\d.]*[1-9])(\d+)(?:\.(\d+))?)?")  # siunitx leaves out ± 0.00
S_SETTINGS: Final = "\\sisetup{separate-uncertainty=true, retain-explicit-plus=true, detect-weight=true, mode=text}"

LINE, SIDE = 85, 138  # characters of small print that a page takes upright, and on its side
ROWS, SIDE_ROWS = 56, 34  # lines of small print that a page takes below a caption
NOTE_LINE: Final = 0.85  # of such a line's height, that of a note
SIDEWAYS_GAIN: Final = 1.3  # how much larger a part has to get to be set on its side


def latex(grid: Grid, siunitx: bool = False) -> str:
    """A float for each part with its caption and label, best figures in bold, the notes below the first.

    Args:
        grid: the table.
        siunitx: whether columns of figures are S columns, aligned at the decimal point.
    """
    parts = [part for part in grid.parts if part.rows]
    floats = [float_of(grid, part, number if len(parts) > 1 else None, siunitx) for number, part in enumerate(parts, start=1)]
    if not parts:
        floats = [Float("table", [f"\\caption{{{escaped(grid.title)}}}", f"\\label{{tab:{grid.key}}}", escaped(grid.empty)])]
    packages = ["adjustbox", "booktabs", *(["rotating"] if any(one.kind == "sidewaystable" for one in floats) else []),
                *(["siunitx"] if siunitx else [])]
    return "\n".join([f"% \\usepackage[T1]{{fontenc}} \\usepackage{{{','.join(packages)}}}", *map(str, floats)])


@dataclass
class Float:
    """A float, and what is in it."""

    kind: str
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"\\begin{{{self.kind}}}", "\\centering", *self.lines, f"\\end{{{self.kind}}}", ""])


def float_of(grid: Grid, part: Part, number: int | None, siunitx: bool) -> Float:
    """The float of a part.

    Args:
        grid: the table.
        part: one of its parts that has rows.
        number: of the part, from 1; None where there is no other.
        siunitx: whether columns of figures are S columns.
    """
    from pandas import DataFrame
    from pandas.io.formats.style import Styler

    columns = grid.printed(part)
    letters = Letters()
    cells = [[column.show(row) for column in columns] for row in part.rows]
    notes = [letters.of(part, column) for column in columns]
    bold = [part.leaders(column) for column in columns]
    figures = [siunitx and column.right and any(FIGURE.fullmatch(row[place]) for row in cells)
               for place, column in enumerate(columns)]
    table = DataFrame([[cell_of(cell, row in bold[place], figures[place]) + (f"\\textsuperscript{{{notes[place][row]}}}" if
                        notes[place][row] else "") for place, cell in enumerate(own)] for row, own in enumerate(cells)],
                      columns=[escaped(column.title.strip()) for column in columns])
    kinds = " ".join(s_column(row[place] for row in cells) if figures[place] else "r" if column.right else "l"
                     for place, column in enumerate(columns))
    heading = f". {part.heading[:1].upper()}{part.heading[1:]}" if part.heading else ""
    below = [*(f"\\textsuperscript{{{letter}}} {escaped(words)}." for words, letter in letters.given.items()),
             *(["Bold: the best of the table, not a test."] if any(bold) else []),
             *(map(escaped, grid.notes) if number in (None, 1) else ())]
    kind, room = layout(columns, cells, below)
    size = f"{{\\linewidth}}{{{room:.2f}\\{'textheight' if kind == 'table' else 'textwidth'}}}"
    return Float(kind, [
        f"\\caption{{{escaped(grid.title + heading)}}}", f"\\label{{tab:{grid.key}{f':{number}' if number else ''}}}",
        f"\\begin{{adjustbox}}{{max totalsize={size}}}", "\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        *([S_SETTINGS] if any(figures) else []),
        Styler(table).hide(axis="index").to_latex(hrules=True, column_format=kinds, siunitx=siunitx).rstrip(),
        "\\end{adjustbox}",
        *(["\\par\\smallskip", "\\begin{minipage}{\\linewidth}", "\\scriptsize\\raggedright", "\\\\\n".join(below),
           "\\end{minipage}"] if below else []),
    ])


class Letters:
    """The letters of the notes below a part: the same words, the same letter."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}

    def of(self, part: Part, column: Column) -> list[str]:
        """The letter of each row's note in a column, empty for none; what all rows share the heading says."""
        words = [column.note(row) if column.note else "" for row in part.rows]
        if part.heading and len(set(words)) == 1:
            return [""] * len(words)
        return [self.given.setdefault(own, letter(len(self.given))) if own else "" for own in words]


def letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    first, last = divmod(number, 26)
    return (letter(first - 1) if first else "") + string.ascii_lowercase[last]


def layout(columns: Sequence[Column], cells: Sequence[Sequence[str]], below: Sequence[str]) -> tuple[str, float]:
    """Upright or on its side, whichever can be printed larger, and the share of the page's height that the rows may take."""
    wide = sum(1.5 + max(len(column.title), *(len(row[place]) for row in cells)) for place, column in enumerate(columns))

    def fitted(line: int, rows: int) -> tuple[float, float]:
        noted = NOTE_LINE * sum(-(-len(words) // (1.15 * line)) for words in below)
        room = max(rows - noted, rows / 4)
        return min(1, line / wide, room / (len(cells) + 2)), 0.88 * room / rows

    upright, side = fitted(LINE, ROWS), fitted(SIDE, SIDE_ROWS)
    return ("sidewaystable", side[1]) if side[0] > SIDEWAYS_GAIN * upright[0] else ("table", upright[1])


def cell_of(words: str, bold: bool, figure: bool) -> str:
    """A cell, in bold or not; in a column of figures as siunitx reads it, and between braces where it is none."""
    if figure:
        if FIGURE.fullmatch(words):
            return ("\\bfseries " if bold else "") + words.replace("±", "\\pm")
        return f"{{{escaped(words)}}}"
    return f"\\textbf{{{escaped(words)}}}" if bold and words != NONE else escaped(words)


def s_column(cells: Iterable[str]) -> str:
    """An S column with room for every figure of these cells."""
    found = [match.groups() for cell in cells if (match := FIGURE.fullmatch(cell))]
    whole, decimals = max(len(one[1]) for one in found), max(len(one[2] or "") for one in found)
    sign = next((one[0] for one in found if one[0]), "")
    spread = max((len(((one[3] or "") + (one[4] or "")).lstrip("0")) or 1 for one in found if one[3]), default=0)
    return f"S[table-format={sign}{whole}.{decimals}{f'({spread})' if spread else ''}]"


def escaped(words: str) -> str:
    """A text for LaTeX: no command, minus signs for those of numbers, and no character that its fonts lack."""
    words = MINUS.sub("−", re.sub("-(?=-)", "-\0", words))  # hyphens side by side are printed as a dash
    return "".join(known(words.translate(ESCAPES))).replace("\0", "{}")


def known(words: str) -> Iterator[str]:
    """The characters of a text, the code of one that is not of the Latin alphabet in its place."""
    for one in words:
        if one == "\0" or " " <= one <= "~" or (one < "\u0180" and unicodedata.name(one, "").startswith("LATIN")):
            yield one
        else:
            plain = unicodedata.normalize("NFKD", one).encode("ascii", "ignore").decode()
            yield plain if plain.isprintable() and plain else f"\\texttt{{U+{ord(one):04X}}}"
