"""Accuracy against size, with the front of what nothing beats in both."""

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from kdrun.analysis.plots.gaps import gaps
from kdrun.analysis.plots.labels import Label, column, place, text_width
from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.scatter import deviation, growing, known, points
from kdrun.analysis.plots.style import FAINT, GRID, MIDDLE, freeze, sheet, shown
from kdrun.analysis.plots.subplots import Entry, Panel, front, seeds_said, weak_said

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pareto"]

TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)
MARGIN, LEADER, AROUND, HALF = 12.0, 10.0, 80.0, 5.0    # points; the last is half a marker
CROWDED, BEST = 40, 6  # more points than that are not all named where sizes are close, but only so many of each size
GOOD = ("Up and to the right is better: more accurate, and smaller. The grey step is the Pareto front: nothing here is both "
        "smaller and more accurate than what lies on it")
WORTH = ("A method is worth its trouble if it is above the same student trained alone (diamond). Students of one size stand "
         "above one another.")
OTHERS = "Grey dots are the {} others; the picture of gaps names them. "


@dataclass(frozen=True)
class Group:
    """Entries of one size, the most accurate first: they stand above one another, each where its numbers say."""

    network: str
    factor: float
    entries: list[Entry]

    @property
    def beside(self) -> float:
        """Points that the names beside it take."""
        return LEADER + max(text_width([entry.short for entry in self.entries]), text_width([self.network], 9) - 2 * HALF)


def pareto(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """Accuracy against the distillation factor, with the front of what nothing beats in both.

    Where all students are of one size there is nothing to weigh: their gaps to the student alone are drawn instead.

    Args:
        panel: what is drawn.
        left_out: where a line is added for what cannot be.
    """
    entries = [entry for entry in panel.entries() if entry.factor is not None]
    if len({round(known(entry.factor).mean, 9) for entry in entries if entry.role != "teacher"}) < 2:
        if entries:
            yield from gaps(panel, left_out)
        return
    left_out += [f"pareto: {entry.label} has no teacher or no size, so no distillation factor" for entry in panel.entries()
                 if entry not in entries]
    groups = grouped(entries)
    ranked = panel.ranked(entries)
    best = [ranked[number] for number in front([(known(entry.factor).mean, entry.accuracy.mean) for entry in ranked])]
    few = any(entry.few for entry in best)

    unnamed = less_known(groups, best)

    def drawn(height: float) -> "Figure | None":
        for in_columns in (True, False):
            figure = sheet(height)
            axes = figure.add_subplot()
            axes.set(xscale="log", xlabel="distillation factor: the teacher's parameters over the student's",
                     ylabel=f"test {panel.headline_name}, %", title=" " if in_columns else "")
            heights = [entry.accuracy.mean + sign * deviation(entry) for entry in entries for sign in (-1, 1)]
            span = max(heights) - min(heights) or 1.0
            axes.set_ylim(min(heights) - 0.06 * span, max(heights) + 0.06 * span)
            axes.grid(**GRID)
            freeze(figure)
            scale_sizes(axes, groups, in_columns)
            line = stepped(axes, best, dotted=few)
            if in_columns and fit_across(axes, groups):
                return figure if columns(axes, groups) else None
        return figure if around(axes, groups, line, unnamed) else None

    figure = growing(drawn, max(3.5, 0.22 * min(len(entries) - len(unnamed), CROWDED)), len(entries))
    written = {text.get_text() for axes in figure.axes for text in axes.texts}
    dots = sum(not {entry.label, entry.short} & written for entry in entries)
    named = "; ".join(entry.label.partition(" (n=")[0] for entry in best)
    yield Plot("pareto", panel.label, panel.label, f"pareto-{panel.slug}", "Accuracy against distillation factor",
               f"{GOOD} ({named}){'; dotted, as it rests on means of fewer than 3 seeds' if few else ''}. {WORTH} "
               f"{OTHERS.format(dots) if dots else ''}{seeds_said(entry.accuracy.count for entry in entries)}"
               f"{weak_said(len(ranked) < len(entries) or any(entry.weak for entry in entries), panel.rank_weak)}", figure)


def grouped(entries: Sequence[Entry]) -> list[Group]:
    """By network and factor, from the largest to the smallest."""
    found: dict[tuple[float, bool, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((known(entry.factor).mean, entry.role != "teacher", entry.network), []).append(entry)
    return [Group(network if taught else "", factor, sorted(same, key=lambda entry: -entry.accuracy.mean))
            for (factor, taught, network), same in sorted(found.items(), key=lambda item: item[0])]


def inside(axes: "Axes") -> tuple[float, float]:
    """Width and height of axes in points."""
    box, points_per_dot = axes.get_window_extent(), 72 / axes.figure.dpi
    return box.width * points_per_dot, box.height * points_per_dot


def across(axes: "Axes", factor: float) -> float:
    """Where a factor is, in points from the left of the axes."""
    return (axes.transData.transform((factor, 1))[0] - axes.get_window_extent().x0) * 72 / axes.figure.dpi


def scale_sizes(axes: "Axes", groups: Sequence[Group], in_columns: bool) -> None:
    """Limits and ticks of the horizontal axis: with room for the markers, and for the names behind the last."""
    before, after = MARGIN + HALF, MARGIN / 2 + HALF + (groups[-1].beside if in_columns else AROUND)
    if not in_columns:
        before += AROUND / 2
    low, high = math.log(groups[0].factor), math.log(groups[-1].factor)
    room = max(inside(axes)[0] - before - after, 30)
    scale = (high - low) / room if high > low else math.log(10) / room
    if high == low:
        before += room / 4
        after += 3 * room / 4
    axes.set_xlim(math.exp(low - before * scale), math.exp(high + after * scale))
    ticks = [tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.set_xticks([], minor=True)


def stepped(axes: "Axes", best: Sequence[Entry], *, dotted: bool) -> list[tuple[float, float]]:
    """Draw the front: up to the size of each of its points nothing is more accurate, behind it the next one is.

    Returns:
        Its corners.
    """
    xs, ys = [axes.get_xlim()[0]], [best[0].accuracy.mean]
    for entry, lower in zip(best, [*(entry.accuracy.mean for entry in best[1:]), axes.get_ylim()[0]], strict=True):
        xs += [known(entry.factor).mean] * 2
        ys += [entry.accuracy.mean, lower]
    axes.plot(xs, ys, color=MIDDLE, linewidth=1.2, zorder=1.5, linestyle=(0, (1.5, 1.5)) if dotted else "-")
    return list(zip(xs, ys, strict=True))


def fit_across(axes: "Axes", groups: Sequence[Group]) -> bool:
    """Whether the names of each group have room before the next one."""
    ends = [*(across(axes, group.factor) - HALF for group in groups[1:]), inside(axes)[0]]
    return all(across(axes, group.factor) + HALF + group.beside + MARGIN / 2 <= end + 1
               for group, end in zip(groups, ends, strict=True))


def columns(axes: "Axes", groups: Sequence[Group]) -> bool:
    """Markers, and names in a column right of each group; False if the axes are not high enough."""
    for group in groups:
        points(axes, group.entries, [group.factor] * len(group.entries))
        middle = across(axes, group.factor)
        axes.annotate(shown(group.network), (middle - HALF - 3, inside(axes)[1] + 3), xycoords="axes points", fontsize=9,
                      annotation_clip=False)
        labels = [Label(group.factor, entry.accuracy.mean, entry.short) for entry in group.entries]
        if not column(axes, labels, middle + HALF + LEADER):
            return False
    return True


def less_known(groups: Sequence[Group], best: Sequence[Entry]) -> set[str]:
    """What is not named where there is not room for all: neither on the front, nor alone, nor among the best of its size."""
    if sum(len(group.entries) for group in groups) <= CROWDED:
        return set()
    return {entry.label for group in groups for rank, entry in enumerate(group.entries)
            if rank >= BEST and entry not in best and entry.role == "student"}


def around(axes: "Axes", groups: Sequence[Group], line: Sequence[tuple[float, float]], unnamed: Container[str]) -> bool:
    """Markers, and full names wherever there is room; False, with no names, where there is not.

    Args:
        axes: with its final limits.
        groups: what is drawn.
        line: corners of what is not to be written on.
        unnamed: labels of what is only a dot.
    """
    every = [(group.factor, entry) for group in groups for entry in group.entries]
    known_ones = [(x, entry) for x, entry in every if entry.label not in unnamed]
    axes.plot([x for x, entry in every if entry.label in unnamed],
              [entry.accuracy.mean for _, entry in every if entry.label in unnamed], ".", color=FAINT, markersize=4, zorder=2)
    points(axes, [entry for _, entry in known_ones], [x for x, _ in known_ones])
    bars = [(x, entry.accuracy.mean - deviation(entry), x, entry.accuracy.mean + deviation(entry)) for x, entry in known_ones]
    bars += [(min(x, next_x), min(y, next_y), max(x, next_x), max(y, next_y)) for (x, y), (next_x, next_y) in pairwise(line)]
    return place(axes, [Label(x, entry.accuracy.mean, entry.label) for x, entry in known_ones], bars) is not None
