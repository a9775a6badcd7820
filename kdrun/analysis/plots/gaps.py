"""How far each method is from the same student trained alone, seed by seed, with confidence intervals: a forest plot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kdrun.analysis.plots.labels import text_width
from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.style import GRID, MIDDLE, SMALL, WIDTH, Look, freeze, sheet, shown
from kdrun.analysis.plots.subplots import Panel, seeds_said, weak_said, weakly_taught
from kdrun.analysis.statistics import FEWEST, INTERVAL, Over, interval, over
from kdrun.analysis.table import WEAK, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["gaps"]

ROW: Final = 15.0  # points
GOOD: Final = (
    "Right of the line is better: more accurate than the same student trained alone with the same seed. Bars: {interval}. "
    "Where a bar crosses the line, the seeds do not tell on which side the method is. Small dots are the seeds.")


@dataclass(frozen=True)
class Gap:
    """A line of the picture.

    Attributes:
        label: the method, marked where its teacher is weak, with the number of seeds where those are few.
        each: the gap of each seed, in points.
        mean: over them.
        look: colour and marker.
    """

    label: str
    each: tuple[float, ...]
    mean: Over
    look: Look


def gaps(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """The gap of every method to the student alone, the largest first; a picture for each network of a student.

    Args:
        panel: what is drawn.
        left_out: where a line is added for what cannot be.
    """
    for part in panel.comparisons:
        network, lines, weak = part.networks[0], [], False
        for variant in part.variants:
            rows = part.students[part.students["variant"] == variant]
            if (rows["family"] == "baseline").all():
                continue
            paired = rows.dropna(subset=["baseline_headline"])
            if paired.empty:
                left_out.append(f"gaps: {variant}, {network} has no student alone beside it")
                continue
            own_weak = weakly_taught(paired)
            weak = weak or own_weak
            lines.append(line_of(variant, paired, part.look[variant], own_weak))
        if not lines:
            continue
        lines.sort(key=lambda line: (-line.mean.mean, line.label))
        taught = part.students.dropna(subset=["teacher_headline", "baseline_headline"]).drop_duplicates("seed", keep="last")
        teacher = differences(taught, "teacher_headline")[1]
        ahead = f" The teacher (dotted, if it is near): {with_interval(teacher, 2)} points." if teacher else ""
        yield Plot("gaps", panel.label, part.label, f"gaps-{part.slug}", f"Gap of each method to {network} alone",
                   f"{GOOD.format(interval=INTERVAL)}{ahead} {seeds_said((line.mean.count for line in lines), spread='')}"
                   f"{weak_said(weak, ranked=True)}",
                   forest(lines, teacher, panel.headline_name))


def differences(rows: "DataFrame", column: str) -> tuple[tuple[float, ...], Over | None]:
    """A headline less the baseline's of the same run, in points: each, and over the runs."""
    each = tuple(100 * (float(own) - float(alone)) for own, alone in zip(rows[column], rows["baseline_headline"], strict=True))
    return each, over(each)


def line_of(variant: str, rows: "DataFrame", look: Look, weak: bool) -> Gap:
    """The line of a method, from its runs."""
    each, mean = differences(rows, "headline_value")
    assert mean is not None
    few = f" (n={mean.count})" if mean.count < FEWEST else ""
    return Gap(shown(variant, 40) + (f" {WEAK}" if weak else "") + few, each, mean, look)


def forest(lines: Sequence[Gap], teacher: Over | None, measure: str) -> "Figure":
    """A line for each method: its name, its seeds, its mean and interval, and both as figures."""
    figures = [with_interval(line.mean, 2) for line in lines]
    left, right = text_width([line.label for line in lines]) + 14, text_width(figures) + 12
    above, below = 22.0, 40.0
    height, width = above + ROW * len(lines) + below, 72 * WIDTH
    figure = sheet(height / 72)
    figure.set_layout_engine("none")
    axes = figure.add_axes((left / width, below / height, (width - left - right) / width, ROW * len(lines) / height))
    low, high = limits(lines)
    axes.set(xlim=(low, high), ylim=(len(lines) - 0.5, -0.5),
             xlabel=f"{measure} less that of the student alone, percentage points")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", **GRID)
    axes.axvline(0, color="black", linewidth=1, zorder=1.5)
    named = [(0.0, "alone")]
    if teacher is not None and low <= teacher.mean <= high:
        axes.axvline(teacher.mean, color="black", linewidth=1, linestyle=(0, (1, 2)), zorder=1.5)
        if abs(teacher.mean) * (width - left - right) / (high - low) > text_width(["alone", "teacher"]) + 6:
            named.append((teacher.mean, "teacher"))
    for x, name in named:
        axes.annotate(name, (x, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
                      va="bottom", fontsize=SMALL, annotation_clip=False)
    for place, (line, figures_of) in enumerate(zip(lines, figures, strict=True)):
        draw_line(axes, place, line, low, high)
        axes.annotate(figures_of, (1, place), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center", fontsize=SMALL, annotation_clip=False)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    freeze(figure)
    return figure


def limits(lines: Sequence[Gap]) -> tuple[float, float]:
    """From where to where the axis goes: all seeds and the line of no gap, and of the intervals what is not far beyond."""
    every = [0.0, *(value for line in lines for value in line.each)]
    low, high = min(every), max(every)
    room = 0.75 * max(high - low, 0.2)
    ends = [end for line in lines for end in interval(line.mean) or ()]
    low, high = min([low, *(max(end, low - room) for end in ends)]), max([high, *(min(end, high + room) for end in ends)])
    margin = 0.05 * max(high - low, 0.2)
    return low - margin, high + margin


def draw_line(axes: "Axes", place: int, line: Gap, low: float, high: float) -> None:
    """Seeds, interval and mean of a method; an interval that goes on beyond the axis ends in an arrow."""
    colour, few = line.look["color"], line.mean.count < FEWEST
    axes.plot(line.each, [place] * len(line.each), ".", color=MIDDLE, markersize=4, markeredgewidth=0, zorder=2.5)
    if ends := interval(line.mean):
        axes.plot([max(ends[0], low), min(ends[1], high)], [place, place], color=colour, linewidth=1.8, zorder=2,
                  solid_capstyle="butt")
        for end, edge, arrow in ((ends[0], low, "<"), (ends[1], high, ">")):
            if (end < low) if arrow == "<" else (end > high):
                axes.plot([edge], [place], arrow, color=colour, markersize=6, markeredgewidth=0, clip_on=False, zorder=3)
    axes.plot([line.mean.mean], [place], line.look["marker"], color=colour, markersize=6, markeredgewidth=1.2, zorder=3,
              markerfacecolor="white" if few else colour)
