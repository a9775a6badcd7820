"""Pictures of many runs: each kind is a function of a panel, and what must not be ranked together is never in one."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from kdrun.survey.plots.alpha import alpha
from kdrun.survey.plots.classes import classes
from kdrun.survey.plots.curves import curves
from kdrun.survey.plots.panel import Panel, panels
from kdrun.survey.plots.pareto import pareto
from kdrun.survey.plots.plot import Plot, styled
from kdrun.survey.plots.relative_error import relative_error
from kdrun.survey.plots.reliability import reliability

if TYPE_CHECKING:
    from kdrun.survey.collection import Collection

__all__ = ["KINDS", "Plot", "draw"]

KINDS: Final[dict[str, Callable[[Panel, list[str]], Iterator[Plot]]]] = {
    "relative_error": relative_error, "pareto": pareto, "alpha": alpha, "curves": curves, "classes": classes,
    "reliability": reliability,
}


def draw(collection: "Collection", kinds: Sequence[str] = tuple(KINDS), left_out: list[str] | None = None) -> Iterator[Plot]:
    """Draw what was collected, kind by kind within each panel.

    Args:
        collection: from `collect`.
        kinds: of `KINDS`.
        left_out: where a line is added for everything that a picture could not show.
    """
    for panel in panels(collection):
        for kind in kinds:
            with styled():
                drawn = list(KINDS[kind](panel, left_out if left_out is not None else []))
            yield from drawn
