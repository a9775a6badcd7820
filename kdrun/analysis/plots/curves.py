"""Learning curves: of one run, and of every method over its seeds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kdrun.analysis.plots.plot import Plot, bytes_of, styled
from kdrun.analysis.plots.style import (
    FAINT,
    GRID,
    MIDDLE,
    SMALL,
    Look,
    error_axis,
    freeze,
    look_of,
    sheet,
    shown,
    small_multiples,
)
from kdrun.analysis.plots.subplots import Panel, pages, seeds_said
from kdrun.analysis.statistics import FEWEST, Over, over
from kdrun.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["curves", "learning_curves"]

BESIDE: Final = {"teacher": ":", "baseline": "--"}  # line styles of what stands beside every method
GOOD: Final = (
    "Lower is better, and so is sooner: a method is worth its trouble where its coloured line ends below the broken one (the "
    "student trained alone); the dotted line is the teacher's, the grey ones are the other methods'.")


def learning_curves(history: list[dict[str, Any]], path: Path, method: str, headline: str) -> None:
    """Draw the validation error of every network of a run over its epochs; nothing where nothing was validated.

    Args:
        history: rows of history.csv.
        path: a PNG or SVG file.
        method: its key, whose colour the student has.
        headline: what the error is 1 less than: the accuracy of a classifier.
    """
    errors: dict[str, list[float]] = {}
    for row in history:
        if (row["split"], row["metric"]) == ("validation", headline):
            errors.setdefault(row["role"], []).append(100 * (1 - row["value"]))
    if not errors:
        return
    with styled():
        figure = sheet(4)
        axes = figure.add_subplot()
        for role, values in errors.items():
            colour = "black" if role in BESIDE else look_of(method)["color"] if role == "student" else MIDDLE
            line = BESIDE.get(role, "-" if role == "student" else "-.")
            axes.plot(range(1, len(values) + 1), values, line, color=colour, linewidth=1.8, label=f"{role}: {values[-1]:.2f} %")
        axes.set(xlabel="epoch", ylabel=error_name(headline))
        error_axis(axes, min(map(min, errors.values())), max(map(max, errors.values())))
        axes.grid(**GRID)
        axes.legend(title="last epoch", frameon=False)
        kind = path.suffix.removeprefix(".")
        write_atomically(path, lambda part: part.write_bytes(bytes_of(figure, kind)))


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


def error_name(headline: str) -> str:
    """The label of an axis of errors: which error it is, where it is not that of a classifier."""
    return "validation error, %" if headline == "accuracy" else f"validation error (1 − {headline.replace('_', ' ')}), %"


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
