"""Whether a network is right as often as it is sure: reliability diagrams (Guo et al. 2017)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kdrun.analysis.plots.plot import Plot
from kdrun.analysis.plots.style import ALONE, GRID, TEACHER, Look, shown, squares
from kdrun.analysis.plots.subplots import Panel, pages, seeds_said
from kdrun.analysis.statistics import FEWEST, Over, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Calibration", "calibration", "reliability"]

GOOD: Final = (
    "On the diagonal is better: as often right as it is sure. Below it a network is too sure of itself, above it not sure "
    "enough. ECE, the expected calibration error, is how far it is from the diagonal on average: lower is better. Grey: the "
    "share of the samples of each confidence; a dot above little grey says little.")


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy of a network, in bins of confidence, over its seeds.

    Attributes:
        confidence: of each bin that has samples, their mean over all seeds.
        accuracy: the share of them that are right, for each of those bins, over the seeds that have any there.
        share: of all samples that are in it, for each of those bins.
        edges: (from, to) of each of those bins.
        error: the expected calibration error.
    """

    confidence: list[float]
    accuracy: list[Over]
    share: list[float]
    edges: list[tuple[float, float]]
    error: Over


def reliability(panel: Panel, left_out: list[str]) -> Iterator[Plot]:
    """Accuracy against confidence of the teacher, the student alone, and the student of each method.

    Args:
        panel: what is drawn; pictures for each network of a student.
        left_out: where a line is added for what cannot be.
    """
    for part in panel.comparisons:
        table = part.collection.calibration
        network = part.networks[0]
        found: dict[str, tuple[Calibration, Look]] = {}
        for role, name, look in (("teacher", "teacher", TEACHER), ("baseline", f"{network} alone", ALONE)):
            if own := calibration(table[table["run"].isin(part.once) & (table["role"] == role)]):
                found[name] = own, look
        for variant, runs in part.variants.items():
            if own := calibration(table[table["run"].isin(runs) & (table["role"] == "student")]):
                found[variant] = own, part.look[variant]
        for page in pages(list(found)):
            yield Plot("reliability", panel.label, part.label, f"reliability-{part.slug}{page.tail}",
                       f"Reliability of {network}{page.which}",
                       f"{GOOD} {seeds_said(found[name][0].error.count for name in page.names)}",
                       reliability_page({name: found[name] for name in page.names}))


def calibration(table: "DataFrame") -> Calibration | None:
    """Bins of one network over its runs, from rows of calibration.csv; None where there are none."""
    if table.empty:
        return None
    count = int(table["bin"].max())
    table = table.assign(sure=table["samples"] * table["confidence"].fillna(0), gap=table["confidence"] - table["accuracy"])
    table = table.assign(gap=(table["samples"] * table["gap"]).abs())
    errors = [float(own["gap"].sum() / own["samples"].sum()) for _, own in table.groupby("run", sort=True)]
    full = table[table["samples"] > 0]
    sums = full.groupby("bin", sort=True)[["samples", "sure"]].sum()
    accuracies = [over(list(rows["accuracy"])) for _, rows in full.groupby("bin", sort=True)]
    error = over(errors)
    if error is None:
        return None
    return Calibration(list(sums["sure"] / sums["samples"]), [value for value in accuracies if value is not None],
                       list(sums["samples"] / table["samples"].sum()),
                       [((int(place) - 1) / count, int(place) / count) for place in sums.index], error)


def reliability_page(found: Mapping[str, tuple[Calibration, Look]]) -> "Figure":
    """A square for each network."""
    figure, grid = squares(len(found))
    for axes, (name, (own, look)) in zip(grid, found.items(), strict=True):
        diagram(axes, own, look)
        about = f" ± {100 * own.error.deviation:.1f}" if own.error.deviation is not None else ""
        few = f", n={own.error.count}" if own.error.count < FEWEST else ""
        axes.set_title(f"{shown(name, 26)}\nECE {100 * own.error.mean:.1f}{about} %{few}", loc="left", fontsize=8)
    grid[0].set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), xticklabels=("0", "50", "100"),
                yticklabels=("0", "50", "100"))
    figure.supxlabel("confidence, %", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    return figure


def diagram(axes: "Axes", own: Calibration, look: Look) -> None:
    """Dots by bin over the share of samples in it, and the diagonal."""
    axes.bar([low for low, _ in own.edges], own.share, width=[high - low for low, high in own.edges], align="edge",
             color="#DDDDDD", zorder=0.5, edgecolor="white", linewidth=0.4)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    means = [value.mean for value in own.accuracy]
    axes.plot(own.confidence, means, color=look["color"], linewidth=1, alpha=0.7, zorder=2)
    for x, value in zip(own.confidence, own.accuracy, strict=True):
        axes.errorbar([x], [value.mean], yerr=value.deviation, color=look["color"], linewidth=0.8, alpha=0.7, zorder=2)
    axes.plot(own.confidence, means, look["marker"], color=look["color"], markersize=5 if look is TEACHER else 4, zorder=3,
              linestyle="none", markerfacecolor="white" if own.error.count < FEWEST else look["color"], clip_on=False)
    axes.grid(**GRID)
