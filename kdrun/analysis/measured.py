"""What was measured of each method under equal conditions, over seeds."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from kdrun.analysis.networks import printed_networks
from kdrun.analysis.run_index import Collection
from kdrun.analysis.statistics import Over, over
from kdrun.config.registry import natural
from kdrun.evaluation import scores
from kdrun.utils.wording import measure_name

__all__ = ["SIZE_UNITS", "Measured", "Scoring", "measured", "same_data", "same_network"]

SizeUnit = Literal["parameters", "bytes", "bits"]
SIZE_UNITS: Final[tuple[SizeUnit, ...]] = ("parameters", "bytes", "bits")


@dataclass(frozen=True)
class Scoring:
    """What the distillation score weighs.

    Attributes:
        alpha: from 0 (accuracy alone) to 1 (size alone).
        size_unit: in what sizes are counted.
    """

    alpha: float = 0.5
    size_unit: SizeUnit = "parameters"


@dataclass(frozen=True)
class Measured:
    """A variant of a method under one set of conditions; shares are from 0 to 1.

    Attributes:
        measured_by: you, or kdrun on some machine.
        comparison: what everything shares that may be ranked with it.
        variant: the method and what was set otherwise than its YAML does.
        method: its key, without what it is made of.
        first: the first of its rows, for what is equal in all.
        seeds: in rising order.
        accuracy: the student's, or what else is the headline of the task.
        teachers: the trained teacher's by seed; empty where there is none.
        teacher: of these.
        baselines: that of the student alone by seed.
        baseline: of these.
        gaps: student less baseline, a value a seed.
        gap: of these.
        reduction: accuracy lost against the teacher, in per cent of it.
        improvement: over the baseline, in per cent of it.
        size_reduction: in per cent of the teacher.
        score: the distillation score.
        relative_error: the student's error over the teacher's.
        factor: the teacher's parameters over the student's.
        size_ratio: the student's size over the teacher's.
    """

    measured_by: str
    comparison: str
    variant: str
    method: str
    first: dict[str, Any]
    seeds: tuple[int, ...]
    accuracy: Over
    teachers: dict[int, float]
    teacher: Over | None
    baselines: dict[int, float]
    baseline: Over | None
    gaps: tuple[float, ...]
    gap: Over | None
    reduction: Over | None
    improvement: Over | None
    size_reduction: Over | None
    score: Over | None
    relative_error: Over | None
    factor: Over | None
    size_ratio: Over | None

    @property
    def weak_teacher(self) -> bool:
        """Whether the teacher is no better than the student alone, on average over the seeds that have both."""
        both = [(self.teachers[seed], self.baselines[seed]) for seed in self.teachers if seed in self.baselines]
        return bool(both) and scores.weak_teacher(sum(taught for taught, _ in both), sum(alone for _, alone in both))

    @property
    def conditions(self) -> str:
        """Who measured it, and under which conditions."""
        return f"measured by {self.measured_by}: {self.comparison}"

    @property
    def headline(self) -> str:
        """What `accuracy` is a measure of, in words."""
        return measure_name(str(self.first["headline"]))

    @property
    def data(self) -> str:
        """The data set's name, with its limit if it has one."""
        return self.comparison.partition(", ")[0]


def measured(found: Collection, scoring: Scoring) -> list[Measured]:
    """Everything that was collected, own measurements first, then by conditions and method in natural order."""
    keys = ["measured_by", "comparison", "variant"]
    table = found.students.astype(object).where(found.students.notna(), None)
    groups = [summary(name, [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")], scoring)
              for name, rows in table.sort_values("seed").groupby(keys, sort=False)] if len(table) else []
    return sorted(groups, key=lambda one: (one.measured_by != "you", natural(one.measured_by), natural(one.comparison),
                                           natural(one.variant)))


def summary(name: Any, rows: Sequence[dict[str, Any]], scoring: Scoring) -> Measured:
    """One group of rows that differ in their seed alone."""
    measured_by, comparison, variant = name
    unit = scoring.size_unit

    def each(compute: Callable[..., float | None], *columns: str) -> Over | None:
        return over([compute(*(row[column] for column in columns)) for row in rows
                     if all(row.get(column) is not None for column in columns)])

    def score(size: float, teacher_size: float, own: float, teacher: float) -> float | None:
        return scores.distillation_score(size, teacher_size, own, teacher, scoring.alpha) if teacher_size else None

    teachers, baselines = ({row["seed"]: row[column] for row in rows if row[column] is not None}
                           for column in ("teacher_headline", "baseline_headline"))
    gaps = tuple(row["headline_value"] - row["baseline_headline"] for row in rows if row["baseline_headline"] is not None)
    accuracy = over([row["headline_value"] for row in rows])
    assert accuracy is not None
    pair, sizes = ("headline_value", "teacher_headline"), (unit, f"teacher_{unit}")
    return Measured(
        measured_by, comparison, variant, rows[0]["method"].partition("+")[0], rows[0], tuple(row["seed"] for row in rows),
        accuracy, teachers, over(list(teachers.values())), baselines, over(list(baselines.values())), gaps, over(gaps),
        each(scores.accuracy_reduction_pct, *pair), each(scores.improvement_pct, "headline_value", "baseline_headline"),
        each(scores.size_reduction_pct, *sizes), each(score, *sizes, *pair), each(scores.relative_error, *pair),
        each(scores.distillation_factor, "parameters", "teacher_parameters"),
        each(lambda own, theirs: own / theirs if theirs else None, *sizes),
    )


def same_network(printed: str | None, name: str | None) -> bool:
    """Whether results call the network so that a table prints: WRN-16-1 is wrn_16_1, ResNet32+ONE is resnet32."""
    known = printed_networks()
    return printed in known and known[printed].name == name


def same_data(printed: str, name: str) -> bool:
    """Whether results call the data set so that a table prints: CIFAR-100 is cifar100."""
    return re.sub(r"[^a-z0-9]", "", printed.lower()) == name.replace("_", "")
