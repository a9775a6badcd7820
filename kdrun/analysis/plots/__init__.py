"""Pictures of many runs: each kind is a function of a panel, and what must not be ranked together is never in one."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from kdrun.analysis.plots.alpha import alpha
from kdrun.analysis.plots.classes import classes
from kdrun.analysis.plots.curves import curves
from kdrun.analysis.plots.gaps import gaps
from kdrun.analysis.plots.pareto import pareto
from kdrun.analysis.plots.plot import Plot, styled
from kdrun.analysis.plots.relative_error import relative_error
from kdrun.analysis.plots.reliability import reliability
from kdrun.analysis.plots.subplots import Panel, panels

if TYPE_CHECKING:
    from kdrun.analysis.run_index import Collection

__all__ = ["KINDS", "Plot", "draw"]

KINDS: Final[dict[str, Callable[[Panel, list[str]], Iterator[Plot]]]] = {
    "gaps": gaps, "relative_error": relative_error, "pareto": pareto, "alpha": alpha, "curves": curves, "classes": classes,
    "reliability": reliability,
}


def draw(collection: "Collection", kinds: Sequence[str] = tuple(KINDS), left_out: list[str] | None = None,
         rank_weak: bool = False) -> Iterator[Plot]:
    """Draw what was collected, kind by kind within each panel, each picture once: a kind may stand in for another.

    Args:
        collection: from `collect`.
        kinds: of `KINDS`.
        left_out: where a line is added for everything that a picture could not show.
        rank_weak: whether a method may be the best of all whose teacher is no better than the student alone.
    """
    left_out = left_out if left_out is not None else []
    done: set[str] = set()
    for panel in panels(collection, rank_weak):
        for kind in kinds:
            missing: list[str] = []
            with styled():
                drawn = [plot for plot in KINDS[kind](panel, missing) if plot.slug not in done]
            left_out += [line for line in missing if line not in left_out]
            done |= {plot.slug for plot in drawn}
            yield from drawn
