"""Every table there is, by the name of its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from kdrun.analysis.league import Sort, league, score_table
from kdrun.analysis.measured import Measured, Scoring, measured
from kdrun.analysis.printed_classes import printed_classes
from kdrun.analysis.published_vs_measured import Selection, accuracies, reductions
from kdrun.analysis.run_index import Collection
from kdrun.analysis.statistics import Test
from kdrun.analysis.table import Grid
from kdrun.analysis.views import families, taxonomy

__all__ = ["TABLES", "Wanted", "tables"]


@dataclass(frozen=True)
class Wanted:
    """How tables are made.

    Attributes:
        scoring: of the distillation score.
        test: against the baseline.
        sort: of the league table.
        select: of the rows of Alkhulaifi's tables.
        rank_weak: whether to rank methods too whose teacher is no better than the student alone.
    """

    scoring: Scoring = field(default_factory=Scoring)
    test: Test = "wilcoxon"
    sort: Sort = "accuracy"
    select: Selection = "all"
    rank_weak: bool = False


def beside_accuracies(table: str, found: Sequence[Measured], wanted: Wanted) -> Grid:
    """Gou 5 or 6."""
    return accuracies(table, found)


def beside_reductions(table: str, found: Sequence[Measured], wanted: Wanted) -> Grid:
    """Alkhulaifi 1 or 2."""
    return reductions(table, found, wanted.select)


def from_cards(table: str, found: Sequence[Measured], wanted: Wanted) -> Grid:
    """Gou 1 to 4."""
    return printed_classes(table)


TABLES: Final[dict[str, Callable[[Sequence[Measured], Wanted], Grid]]] = {
    **{f"alkhulaifi_{number}": partial(beside_reductions, f"Alkhulaifi {number}") for number in (1, 2)},
    **{f"gou_{number}": partial(from_cards, f"Gou {number}") for number in (1, 2, 3, 4)},
    **{f"gou_{number}": partial(beside_accuracies, f"Gou {number}") for number in (5, 6)},
    "families": lambda found, wanted: families(found),
    "taxonomy": lambda found, wanted: taxonomy(found),
    "distillation_score": lambda found, wanted: score_table(found, wanted.scoring, wanted.rank_weak),
    "league": lambda found, wanted: league(found, wanted.test, wanted.sort, wanted.scoring, wanted.rank_weak),
}
"""From what was measured and how it is wanted, to each table."""


def tables(found: Collection, wanted: Wanted, names: Sequence[str] = tuple(TABLES)) -> list[Grid]:
    """Make these tables of everything collected."""
    groups = measured(found, wanted.scoring)
    return [TABLES[name](groups, wanted) for name in names]
