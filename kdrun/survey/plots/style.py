"""How every picture looks: for print at 7 inches, colour-blind safe, the same bytes for the same numbers."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray

__all__ = ["ALONE", "FAINT", "GRID", "SMALL", "STYLE", "TEACHER", "WIDTH", "Look", "error_axis", "freeze", "looks", "sheet",
           "shown", "small_multiples", "squares"]

Look = dict[str, Any]  # colour and marker: what matplotlib's drawing functions take

WIDTH: Final = 7.0     # inches: two columns of a paper, or a page with margins
SMALL: Final = 8       # points, at that width; nothing is smaller
STYLE: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first comes with matplotlib
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": False,
    "svg.fonttype": "none",       # texts stay texts
    "svg.hashsalt": "kdrun",      # the same ids each time
    "text.parse_math": False,     # a class may be called "$5"
    "axes.unicode_minus": True, "savefig.dpi": 300, "path.simplify": False,
}
GRID: Final[dict[str, Any]] = {"color": "#E4E4E4", "linewidth": 0.6}
FAINT: Final = "#BDBDBD"

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that print loses; in an order in which
# neighbours also differ in grey. Markers have another count, so that 63 methods differ in the pair of both.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#5B5B5B")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
TEACHER: Final[Look] = {"color": "#000000", "marker": "*"}
ALONE: Final[Look] = {"color": "#000000", "marker": "d"}


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A colour and a marker for each name, the same wherever the same names are drawn together."""
    return {name: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
            for place, name in enumerate(names)}


def shown(text: object, most: int = 48) -> str:
    """A text as it can stand in a picture: printable, on one line, not too long."""
    line = re.sub(r"\s+", " ", "".join(letter if letter.isprintable() else " " for letter in str(text))).strip()
    return line if len(line) <= most else line[:most - 1] + "…"


def sheet(height: float) -> "Figure":
    """An empty figure, so many inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def small_multiples(count: int, *, height: float, most: int = 3) -> tuple["Figure", list["Axes"]]:
    """Equal axes with common scales, row by row, each so many inches high; what the grid has too many is left empty."""
    across = min(count, most)
    down = -(-count // across)
    figure = sheet(height * down + 0.45)
    return figure, filled(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False), count)


def squares(count: int, most: int = 4) -> tuple["Figure", list["Axes"]]:
    """The same with square axes, which the layout engine would put far apart."""
    across = min(count, most)
    down = -(-count // across)
    left, right, between, above, apart, below = 46, 10, 22, 30, 48, 38  # points
    side = (72 * WIDTH - left - right - (most - 1) * between) / most
    height = above + down * side + (down - 1) * apart + below
    figure = sheet(height / 72)
    figure.set_layout_engine("none")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False, gridspec_kw={
        "left": left / 72 / WIDTH, "right": (left + across * side + (across - 1) * between) / 72 / WIDTH,
        "bottom": below / height, "top": 1 - above / height, "wspace": between / side, "hspace": apart / side})
    return figure, filled(grid, count)


def filled(grid: "ndarray", count: int) -> list["Axes"]:
    """The axes of a grid that are used; the others are taken away, and what ends a column shows its numbers."""
    every, across = list(grid.flat), grid.shape[1]
    for place, axes in enumerate(every):
        if place >= count:
            axes.remove()
        else:
            axes.tick_params(labelbottom=place + across >= count, bottom=True)
    return every[:count]


def error_axis(axes: "Axes", highest: float) -> None:
    """A vertical axis of errors in per cent that gives the small ones room: of square roots, from 0."""
    axes.set_yscale("function", functions=(root, square))
    top = min(100.0, 1.05 * highest) or 1.0
    marks = [0.0]
    for mark in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 80, 100):
        if mark <= top and mark ** 0.5 - marks[-1] ** 0.5 >= 0.09 * top ** 0.5:  # far enough apart for their numbers
            marks.append(mark)
    axes.set_ylim(0, top)
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])


def root(values: "ndarray") -> "ndarray":
    """The square root; 0 below 0."""
    return values.clip(0) ** 0.5


def square(values: "ndarray") -> "ndarray":
    """What `root` came from."""
    return values ** 2


def freeze(figure: "Figure") -> None:
    """Lay the figure out once and for all: labels that are placed by the point stay where they are free."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
