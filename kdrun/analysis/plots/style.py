"""How every picture looks: for print at 7 inches, colour-blind safe, the same bytes for the same numbers."""

import hashlib
import math
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from kdrun.config import registry
from kdrun.utils.wording import measure_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray

__all__ = ["ALONE", "DARK", "FAINT", "GRID", "MIDDLE", "SMALL", "STYLE", "TEACHER", "WIDTH", "Look", "dark_mode", "error_axis",
           "freeze", "look_of", "sheet", "shown", "small_multiples", "squares"]

Look = dict[str, Any]  # colour and marker: what matplotlib's drawing functions take

STEPS: Final = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # numbers at which an axis of errors is marked
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
BESIDE: Final = {"teacher": ":", "baseline": "--"}  # line styles of what stands beside every method
FAINT: Final = "#BDBDBD"
MIDDLE: Final = "#7A7A7A"

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow that print loses; in an order in which
# neighbours also differ in grey; then three of Tol's and of ColorBrewer's. Markers have another count, so that 130 methods
# differ in the pair of both.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#5B5B5B", "#882255", "#332288", "#8C6D31")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "8", "H",
                  (4, 1, 0), (4, 1, 45), (3, 1, 0), (3, 1, 180), (6, 1, 0), (5, 0, 180))  # stars of few points, a pentagon
TEACHER: Final[Look] = {"color": "#000000", "marker": "*"}
ALONE: Final[Look] = {"color": "#000000", "marker": "d"}

DARK: Final = {
    "#FFFFFF": "#0D1117", "#000000": "#E6EDF3", "#E4E4E4": "#2A313A", "#DDDDDD": "#353D47", "#BDBDBD": "#59636E",
    "#7A7A7A": "#9AA4AF", "#8C8C8C": "#8B949E", "#5B5B5B": "#B8C0C8", "#0072B2": "#4DA3DB", "#009E73": "#2DBE92",
    "#D55E00": "#F0803C", "#CC79A7": "#DB93BB", "#E69F00": "#E69F00", "#56B4E9": "#56B4E9",
    "#882255": "#C9699B", "#332288": "#9086E4", "#8C6D31": "#C2A15A",
}
"""What each colour of a picture becomes on a dark page: as far from its background as it is from white."""


def dark_mode(svg: str = "svg") -> str:
    """Rules of CSS by which an SVG follows a reader who asks for dark pages; who does not know them sees it as drawn.

    Args:
        svg: a selector of the picture.
    """
    rules = [f'{svg} [style*="{what}: {light.lower()}"] {{ {what}: {dark.lower()} !important; }}'
             for light, dark in DARK.items() if light != dark for what in ("fill", "stroke")]
    # what is black, as texts are, says nothing of its colour, and has that of the whole
    return "\n".join(["@media screen and (prefers-color-scheme: dark) {", f"{svg} {{ fill: {DARK['#000000'].lower()}; }}",
                      *rules, "}"])


@cache
def ordered_methods() -> dict[str, int]:
    """The place of each method that ships with kdrun, those of a family one after the other."""
    names = [path.stem for path in (registry.shipped() / "method").glob("*.yaml")]
    return {name: place for place, name in enumerate(sorted(names, key=lambda name: (
        str(registry.load("method", name).get("_target_")), name)))}


def look_of(method: str) -> Look:
    """The colour and marker of a method: the same in every picture, whatever else is drawn there.

    Args:
        method: its key, or several joined by + where it is made of others: then it looks as the first does.
    """
    name = method.partition("+")[0]
    place = ordered_methods().get(name)
    if place is None:  # a user's own
        place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big")
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


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


def error_axis(axes: "Axes", lowest: float, highest: float) -> str:
    """A vertical axis from the lowest error drawn to the highest, in per cent, that gives the small ones room.

    Logarithmic, so that a tenth less is the same step everywhere; of square roots, from 0, where an error of 0 is drawn.

    Returns:
        What it is, in words for a caption.
    """
    from matplotlib.ticker import MaxNLocator

    if lowest > 0:
        margin = max(highest / lowest, 1.1) ** 0.05
        low, high = lowest / margin, min(100.0, highest * margin)
        axes.set_yscale("log")
        scale: Callable[[float], float] = math.log
    else:
        low, high = 0.0, min(100.0, 1.05 * highest) or 1.0
        axes.set_yscale("function", functions=(root, square))
        scale = math.sqrt
    marks: list[float] = []
    for mark in ([0.0] if low == 0 else []) + [digit * 10 ** power for power in (-2, -1, 0, 1) for digit in STEPS] + [100.0]:
        if low <= mark <= high and (not marks or scale(mark) - scale(marks[-1]) >= 0.09 * (scale(high) - scale(low))):
            marks.append(mark)  # far enough apart for their numbers
    if len(marks) < 3:  # errors that are close to one another
        marks = [mark for mark in MaxNLocator(4).tick_values(low, high) if low <= mark <= high]
    axes.set_ylim(low, high)
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.set_yticks([], minor=True)
    return "logarithmic" if low > 0 else "one of square roots"


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


def error_name(headline: str) -> str:
    """The label of an axis of errors: which error it is, where it is not that of a classifier."""
    return "validation error, %" if headline == "accuracy" else f"validation error (1 − {measure_name(headline)}), %"
