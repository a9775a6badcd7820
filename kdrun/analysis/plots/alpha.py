"""The distillation score against alpha, its weight of size against accuracy, and where another network becomes the best."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kdrun.analysis.plots.labels import Label, column, spread, text_width
from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.scatter import growing
from kdrun.analysis.plots.style import GRID, MIDDLE, freeze, sheet
from kdrun.analysis.plots.subplots import Entry, Panel, best_by_alpha, seeds_said, weak_said

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["alpha"]

BEFORE: Final = 40.0  # points from a name to the start of its line
GOOD: Final = (
    "Lower is better: the score is α times the share of the teacher's size, plus 1 − α times the share of its accuracy that is "
    "lost.")
STYLES: Final = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))  # of the lines of each network
NETWORKS: Final = "Kinds of lines tell the students' networks apart ({}). "
KINDS: Final = ("solid", "broken", "dotted", "dashes and dots")
THICK: Final = "Black lines are students trained alone, thick ones the best at some α:"
ONE_SIZE: Final = "All students here are of one size: then accuracy alone decides, whatever α is. "


def alpha(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """The distillation score (Alkhulaifi et al. 2021, equation 1) of every student as a line over alpha.

    Args:
        panel: what is drawn; a picture for each unit that its runs count sizes in.
        left_out: where a line is added for what cannot be.
    """
    for unit, rows in panel.students[panel.students["size_unit"].notna()].groupby("size_unit", sort=True):
        every = [entry for entry in replace(panel, students=rows).entries(str(unit)) if entry.role != "teacher"]
        entries = [entry for entry in every if entry.loss is not None and entry.size is not None]
        left_out += [f"alpha: {entry.label} has no teacher or no size, so no distillation score" for entry in every
                     if entry not in entries]
        if entries:
            yield alpha_of(panel, str(unit), entries)


def alpha_of(panel: Panel, unit: str, entries: Sequence[Entry]) -> Plot:
    """The picture for sizes in one unit."""
    stretches = best_by_alpha({entry.label: (entry.score(0), entry.score(1)) for entry in panel.ranked(entries)})
    best = {name for _, _, name in stretches}
    networks = dict.fromkeys(entry.network for entry in entries)
    styles = {network: place % len(STYLES) for place, network in enumerate(networks)}

    def drawn(height: float) -> "Figure | None":
        figure = sheet(height)
        axes = figure.add_subplot()
        axes.set(xlabel=f"α: from accuracy alone (0) to size alone (1), in {unit}", ylabel="distillation score")
        axes.set_title(" " if len(stretches) > 1 else "")  # room above, where the switches are named
        axes.yaxis.set_label_position("right")
        axes.yaxis.tick_right()
        axes.spines["left"].set_visible(False)
        axes.spines["right"].set_visible(True)
        axes.grid(axis="x", **GRID)
        for entry in entries:
            line(axes, entry, STYLES[styles[entry.network]], strong=entry.label in best)
        axes.margins(y=0.06)
        freeze(figure)
        inside = axes.get_window_extent().width * 72 / figure.dpi
        room = text_width([entry.label for entry in entries]) + BEFORE + 4  # for the names, left of where the lines start
        axes.set_xlim(-room / (inside - room), 1)
        axes.spines["bottom"].set_bounds(0, 1)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        ticks = [tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
        axes.set_yticks(ticks)
        axes.hlines(ticks, 0, 1, zorder=0.5, **GRID)
        labels = [Label(0, entry.score(0), entry.label, entry.look["color"]) for entry in entries]
        if not column(axes, labels, room - BEFORE, align="right"):
            return None
        switches(axes, stretches, {entry.label: entry for entry in entries})
        return figure

    told = ", ".join(f"{network}: {KINDS[style]}" for network, style in styles.items())
    winners = "; ".join(f"{name} for α from {low:.2f} to {high:.2f}" for low, high, name in stretches)
    one_size = len({round(entry.score(1), 9) for entry in entries}) == 1
    return Plot("alpha", panel.label, panel.label, f"alpha-{unit}-{panel.slug}", "Distillation score against alpha",
                f"{GOOD} {NETWORKS.format(told) if len(networks) > 1 else ''}{THICK} {winners or 'none'}. "
                f"{ONE_SIZE if one_size else ''}{seeds_said((entry.accuracy.count for entry in entries), spread='')}"
                f"{weak_said(any(entry.weak for entry in entries), panel.rank_weak)}",
                growing(drawn, 4.0, len(entries)))


def line(axes: "Axes", entry: Entry, style: Any, *, strong: bool) -> None:
    """The line of an entry, with its marker at the start: thick if it is the best somewhere."""
    colour = entry.look["color"]
    axes.plot([0, 1], [entry.score(0), entry.score(1)], color=colour, linewidth=2.4 if strong else 0.9, linestyle=style,
              zorder=3 if strong else 2)
    axes.plot([0], [entry.score(0)], entry.look["marker"], color=colour, markersize=5, zorder=4, clip_on=False,
              markerfacecolor="white" if entry.few else colour)


def switches(axes: "Axes", stretches: Sequence[tuple[float, float, str]], named: dict[str, Entry]) -> None:
    """Mark every alpha at which another is the best, with its value and names above."""
    size = 8
    places = [low for low, _, _ in stretches[1:]]
    inside = axes.get_window_extent().width * 72 / axes.figure.dpi
    low, high = axes.get_xlim()
    texts = [f"α = {place:.2f}" for place in places]
    wide = text_width(texts, size) + 6
    wanted = [(place - low) / (high - low) * inside for place in places]
    height = axes.get_window_extent().height * 72 / axes.figure.dpi
    for place, text, right, up in zip(places, texts, spread(wanted, wide, wide / 2, inside - wide / 2), wanted, strict=True):
        axes.axvline(place, color=MIDDLE, linewidth=0.8, linestyle=(0, (1.5, 1.5)), zorder=1)
        axes.annotate(text, (up, height), (right, height + 10), xycoords="axes points", textcoords="axes points", fontsize=size,
                      ha="center", va="bottom", annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": MIDDLE, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0})
    for (start, _, name), place in zip(stretches[1:], places, strict=True):
        axes.plot([start], [named[name].score(place)], "o", color="black", markersize=5, markerfacecolor="white", zorder=6)


