"""Accuracy against relative error."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdrun.analysis.plots.labels import Label, column, text_width
from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.scatter import growing, known, points
from kdrun.analysis.plots.style import GRID, WIDTH, freeze, shown, small_multiples
from kdrun.analysis.plots.subplots import Panel, seeds_said, weak_said

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["relative_error"]

GOOD = ("Up and to the left is better; left of the dotted line a student makes fewer errors than its teacher. A method is "
        "worth its trouble if it is above the same student trained alone (diamond).")


def relative_error(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """Accuracy against relative error (Zhu et al. 2024, Figure 5): one point for each way to train a student.

    Args:
        panel: what is drawn.
        left_out: where a line is added for what cannot be.
    """
    entries = [entry for entry in panel.entries() if entry.relative_error is not None]
    left_out += [f"relative_error: {entry.label} has no teacher, so no relative error" for entry in panel.entries()
                 if entry not in entries]
    groups = [[entry for entry in entries if entry.role == "teacher" or entry.network == network] for network in panel.networks]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return

    def drawn(height: float) -> "Figure | None":
        room = max(text_width([entry.short for entry in group]) for group in groups) + 30  # of the labels, beside all points
        figure, grid = small_multiples(len(groups), height=height, most=max(1, min(3, int(72 * WIDTH / (room + 70)))))
        for axes, group in zip(grid, groups, strict=True):
            errors = [known(entry.relative_error) for entry in group]
            points(axes, group, [error.mean for error in errors], errors)
            axes.axvline(1, color="black", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
            axes.margins(0.06)
            axes.grid(**GRID)
            if len(groups) > 1:
                axes.set_title(shown(group[-1].network), loc="left")
        figure.supxlabel("relative error: the student's error over the teacher's", fontsize=9)
        figure.supylabel(f"test {panel.headline_name}, %", fontsize=9)
        freeze(figure)
        inside = grid[0].get_window_extent().width * 72 / figure.dpi
        low, high = grid[0].get_xlim()
        wide = (high - low) * inside / max(inside - room, inside / 3)
        ticks = [tick for tick in grid[0].get_xticks() if low <= tick <= high]
        grid[0].set_xlim(low, low + wide)
        grid[0].set_xticks(ticks)
        for axes, group in zip(grid, groups, strict=True):
            labels = [Label(known(entry.relative_error).mean, entry.accuracy.mean, entry.short) for entry in group]
            if not column(axes, labels, inside - room + 16):
                return None
        return figure

    yield Plot("relative_error", panel.label, panel.label, f"relative_error-{panel.slug}", "Accuracy against relative error",
               f"{GOOD} {seeds_said(entry.accuracy.count for entry in entries)}"
               f"{weak_said(any(entry.weak for entry in entries), ranked=True)}", growing(drawn, 2.9, len(entries)))
