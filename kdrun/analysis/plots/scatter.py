"""Points with error bars and labels: what the pictures of accuracy against something share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kdrun.analysis.plots.subplots import Entry
from kdrun.analysis.statistics import Over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["deviation", "growing", "known", "points"]

TRIES = 12  # heights to try before a figure is given up as overfull


def known(value: Over | None) -> Over:
    """A value that was looked for before."""
    assert value is not None
    return value


def deviation(entry: Entry) -> float:
    """The standard deviation of an entry's accuracy; 0 for one seed."""
    return entry.accuracy.deviation or 0.0


def points(axes: "Axes", entries: Sequence[Entry], xs: Sequence[float], across: Sequence[Over] | None = None) -> None:
    """A marker with error bars for each entry, hollow where its seeds are few."""
    for number, (entry, x) in enumerate(zip(entries, xs, strict=True)):
        colour = entry.look["color"]
        sideways = across[number].deviation if across else None
        axes.errorbar([x], [entry.accuracy.mean], yerr=entry.accuracy.deviation, xerr=sideways, color=colour, linewidth=0.8,
                      alpha=0.55, capsize=2, capthick=0.8, zorder=2)
        axes.plot([x], [entry.accuracy.mean], entry.look["marker"], color=colour, zorder=3, markeredgewidth=1.2,
                  markersize=9 if entry.role == "teacher" else 6, markerfacecolor="white" if entry.few else colour)


def growing(drawn: "Callable[[float], Figure | None]", height: float, count: int) -> "Figure":
    """The figure at the first height at which all its labels have room."""
    for _ in range(TRIES):
        figure = drawn(height)
        if figure is not None:
            return figure
        height *= 1.25
    raise ValueError(f"{count} labels do not fit into a picture; --where chooses fewer runs")
