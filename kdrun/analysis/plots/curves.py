"""Learning curves of every method over its seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.style import (
    BESIDE,
    FAINT,
    GRID,
    SMALL,
    Look,
    error_axis,
    error_name,
    freeze,
    shown,
    small_multiples,
)
from kdrun.analysis.plots.subplots import Panel, pages, seeds_said
from kdrun.analysis.statistics import FEWEST, Over, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["curves"]

GOOD: Final = (
    "Lower is better, and so is sooner: a method is worth its trouble where its coloured line ends below the broken one (the "
    "student trained alone); the dotted line is the teacher's, the grey ones are the other methods'.")


def curves(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """The validation error of each method over its epochs, beside the teacher, the student alone and the other methods.

    Args:
        panel: what is drawn; pictures for each network of a student.
        left_out: where a line is added for what cannot be.
    """
    for part in panel.comparisons:
        history = part.collection.history
        history = history[(history["split"] == "validation") & (history["metric"] == part.headline)]
        network = part.networks[0]
        taught: dict[str, list[Over]] = {}
        for variant, runs in part.variants.items():
            if found := mean_curve(history[history["run"].isin(runs) & (history["role"] == "student")]):
                taught[variant] = found
            else:
                left_out.append(f"curves: {variant}, {network} was not validated")
        beside = {role: mean_curve(history[history["run"].isin(part.once) & (history["role"] == role)]) for role in BESIDE}
        beside = {role: curve for role, curve in beside.items() if curve}
        named = {"teacher": "teacher", "baseline": f"{network} alone"}
        lasts = [f"{named[role]} {curve[-1].mean:.2f} %" for role, curve in beside.items()]
        last = f" Last epoch: {', '.join(lasts)}." if lasts else ""
        for page in pages(list(taught)):
            figure, axis = curves_page(taught, page.names, beside, part.look, error_name(part.headline))
            yield Plot("curves", panel.label, part.label, f"curves-{part.slug}{page.tail}",
                       f"Learning curves of {network}{page.which}",
                       f"{GOOD}{last} {seeds_said((taught[name][-1].count for name in page.names), 'bands', few='')} "
                       f"The vertical axis is {axis}.", figure)


def curves_page(taught: Mapping[str, list[Over]], names: Sequence[str], beside: Mapping[str, list[Over]],
                look: Mapping[str, Look], error: str) -> tuple["Figure", str]:
    """A small picture for each of these methods, the others' curves behind its own; and what its vertical axis is."""
    figure, grid = small_multiples(len(names), height=1.75)
    for axes, variant in zip(grid, names, strict=True):
        for other, curve in taught.items():
            if other != variant:
                axes.plot(epochs(curve), means(curve), color=FAINT, linewidth=0.7, zorder=1)
        for role, curve in beside.items():
            axes.plot(epochs(curve), means(curve), color="black", linewidth=1, linestyle=BESIDE[role], zorder=2)
        curve, colour = taught[variant], look[variant]["color"]
        band(axes, curve, colour)
        axes.plot(epochs(curve), means(curve), color=colour, linewidth=1.8, zorder=3)
        last = curve[-1]
        about = f" ± {last.deviation:.2f}" if last.deviation is not None else ""
        few = f", n={last.count}: too few" if last.count < FEWEST else ""
        axes.set_title(f"{shown(variant, 30)}\nlast {last.mean:.2f}{about} %{few}", loc="left", fontsize=SMALL)
        axes.grid(**GRID)
    every = [value for curve in [*taught.values(), *beside.values()] for value in means(curve)]
    axis = error_axis(grid[0], min(every), max(every))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(error, fontsize=9)
    freeze(figure)
    return figure, axis


def mean_curve(rows: "DataFrame") -> list[Over]:
    """Mean and spread over runs of the validation error in per cent, epoch by epoch, as far as all runs go."""
    each = [[100 * (1 - float(value)) for value in own["value"]] for _, own in rows.groupby("run", sort=True)]
    found = [over(values) for values in zip(*each, strict=False)]
    return [value for value in found if value is not None]


def epochs(curve: Sequence[Over]) -> list[int]:
    """Counted from 1 over all phases that are validated."""
    return list(range(1, len(curve) + 1))


def means(curve: Sequence[Over]) -> list[float]:
    """Of each epoch."""
    return [value.mean for value in curve]


def band(axes: "Axes", curve: Sequence[Over], colour: str) -> None:
    """One standard deviation to either side."""
    low = [max(value.mean - (value.deviation or 0), 0) for value in curve]
    high = [value.mean + (value.deviation or 0) for value in curve]
    axes.fill_between(epochs(curve), low, high, color=colour, alpha=0.22, linewidth=0, zorder=2)
