"""Which classes a student finds less often, or more often, than its teacher."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.style import ALONE, GRID, MIDDLE, Look, freeze, shown, small_multiples
from kdrun.analysis.plots.subplots import Panel, pages, seeds_said
from kdrun.analysis.statistics import FEWEST, Over, over

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["classes", "most_changed"]

MOST: Final = 20   # classes; of more, as many as fit at each end
ENDS: Final = 10

GOOD: Final = (
    "Right of the line is better: a class that the student finds more often than its teacher does. Left of it is what was "
    "lost, and what the student trained alone loses too is no fault of the method.")

Changes = Mapping[str, Over]  # of the recall, in percentage points, by class


def classes(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """The change of every class's recall from the teacher to the student, in percentage points.

    Args:
        panel: what is drawn; pictures for each network of a student.
        left_out: where a line is added for what cannot be.
    """
    for part in panel.comparisons:
        table = part.collection.per_class
        network = part.networks[0]
        found: dict[str, tuple[Changes, Look]] = {}
        if alone := changes(table[table["run"].isin(part.once)], "baseline"):
            found[f"{network} alone"] = alone, ALONE
        for variant, runs in part.variants.items():
            if own := changes(table[table["run"].isin(runs)], "student"):
                found[variant] = own, part.look[variant]
            else:
                left_out.append(f"classes: {variant}, {network} has no teacher to compare its classes with")
        if len(found) == bool(alone):
            continue
        chosen = most_changed({name: changed for name, (changed, _) in found.items()})
        every = {label for changed, _ in found.values() for label in changed}
        which = f"The {len(chosen)} of {len(every)} classes that changed most" if len(chosen) < len(every) else "Classes"
        for page in pages(list(found)):
            counts = [change.count for name in page.names for change in found[name][0].values()]
            yield Plot("classes", panel.label, part.label, f"classes-{part.slug}{page.tail}",
                       f"Recall of each class, {network} against its teacher{page.which}",
                       f"{GOOD} {which}, in order of the mean change over all methods here. {seeds_said(counts)}",
                       classes_page({name: found[name] for name in page.names}, chosen, len(chosen) < len(every)))


def classes_page(found: Mapping[str, tuple[Changes, Look]], chosen: Sequence[str], two_ends: bool) -> "Figure":
    """A small picture for each method: a dot for each class, those that lost most at the top, a line between two ends."""
    figure, grid = small_multiples(len(found), height=0.55 + 0.155 * len(chosen), most=4)
    for axes, (name, (changed, look)) in zip(grid, found.items(), strict=True):
        axes.axvline(0, color="black", linewidth=0.8, zorder=1)
        for place, label in enumerate(chosen):
            if (change := changed.get(label)) is None:
                continue
            hollow = change.count < FEWEST
            axes.errorbar([change.mean], [place], xerr=change.deviation, color=look["color"], linewidth=1, alpha=0.6, zorder=2)
            axes.plot([change.mean], [place], look["marker"], color=look["color"], markersize=4.5, zorder=3,
                      markerfacecolor="white" if hollow else look["color"])
        axes.set_title(shown(name, 26), loc="left", fontsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(**GRID)
        axes.tick_params(axis="y", length=0)
        if two_ends:
            axes.axhline(ENDS - 0.5, color=MIDDLE, linewidth=0.6, linestyle=(0, (4, 3)))
    grid[0].set_yticks(range(len(chosen)), [shown(label, 22) for label in chosen])
    grid[0].set_ylim(len(chosen) - 0.4, -0.6)
    figure.supxlabel("recall of the student minus recall of its teacher, percentage points", fontsize=9)
    figure.supylabel("class", fontsize=9)
    freeze(figure)
    return figure


def changes(table: "DataFrame", role: str) -> dict[str, Over]:
    """The recall of each class in each run minus the teacher's there, over the runs; empty where no run has both."""
    both = table[table["role"] == role].merge(table[table["role"] == "teacher"], on=["run", "class"], suffixes=("", "_teacher"))
    both = both.assign(change=100 * (both["recall"] - both["recall_teacher"]))
    found = {str(label): over(list(rows["change"])) for label, rows in both.groupby("class", sort=False)}
    return {label: value for label, value in found.items() if value is not None}


def most_changed(found: Mapping[str, Changes]) -> list[str]:
    """The classes by the mean of their mean changes, the greatest loss first; of many, those at either end."""
    values: dict[str, list[float]] = {}
    for changed in found.values():
        for label, change in changed.items():
            values.setdefault(label, []).append(change.mean)
    ordered = sorted(values, key=lambda label: sum(values[label]) / len(values[label]))
    return ordered if len(ordered) <= MOST else ordered[:ENDS] + ordered[-ENDS:]
