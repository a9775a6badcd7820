"""What every diagnosis writes and prints alike: columns that say whose a row is, and means over seeds."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from kdrun.evaluation.diagnostics.stored import StoredNetwork, StoredRun

__all__ = ["ROLES", "WHOSE", "Findings", "headed", "over_seeds", "plain_table", "spread", "whose"]

ROLES = ("teacher", "baseline", "student")
WHOSE = ("run", "seed", "comparison", "variant", "role", "group", "model")


@dataclass
class Findings:
    """What a diagnosis found.

    Attributes:
        files: the rows of each CSV, by its name without the ending; with its columns.
        tables: to be printed.
        notes: lines to be printed below them.
    """

    files: dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]]
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def whose(run: StoredRun, role: str, network: StoredNetwork) -> dict[str, Any]:
    """The first columns of a network's row."""
    return {"run": run.name, "seed": run.seed, "comparison": run.comparison, "variant": run.variant, "role": role,
            "group": network.group, "model": network.role.model}


def plain_table(title: str, columns: Sequence[str]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def headed(variant: str, comparison: str) -> Text:
    """The first cell of a row: a variant, and dimly below it what it may be compared within."""
    return Text.assemble(f"{variant}\n  ", (comparison, "dim"))


def over_seeds(title: str, rows: Iterable[Mapping[str, Any]],
               measures: Mapping[str, tuple[str, Callable[[float], str]]]) -> list[Table]:
    """A table for each comparison: a line for each group of networks, with means ± standard deviations over seeds.

    Args:
        title: goes before the comparison.
        rows: with the columns of `whose`; a network that several runs share is counted once.
        measures: heading and format of each column to show.
    """
    found: dict[str, dict[str, dict[tuple[Any, ...], Mapping[str, Any]]]] = {}
    for row in rows:
        # teacher and baseline of a seed are the same networks in all runs of that seed
        found.setdefault(row["comparison"], {}).setdefault(row["group"], {}).setdefault((row["role"], row["seed"]), row)
    tables = []
    for comparison, groups in found.items():
        table = plain_table(f"{title}: {comparison}", ["", "seeds", *(heading for heading, _ in measures.values())])
        for group in sorted(groups, key=lambda name: ROLES.index(name) if name in ROLES else len(ROLES)):
            own = list(groups[group].values())
            table.add_row(group, str(len(own)),
                          *(spread([row[key] for row in own], form) for key, (_, form) in measures.items()))
        tables.append(table)
    return tables


def spread(values: Iterable[float | None], form: Callable[[float], str]) -> str:
    """The mean and, of several, the standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return form(statistics.fmean(known)) + (f" ± {form(statistics.stdev(known))}" if len(known) > 1 else "")
