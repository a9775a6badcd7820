"""What a sweep shows at its end: a line for each of the settings tried, the best first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kdrun.analysis.statistics import Over, interval, over
from kdrun.utils.progress import LOWER
from kdrun.utils.wording import counted, measure_name

__all__ = ["Line", "line", "table"]

Runs = Sequence[Mapping[str, Mapping[str, Any]]]  # the rows of each run, by role
WEAK: Final = "!"


@dataclass(frozen=True)
class Line:
    """What came of some settings, over the seeds.

    Attributes:
        settings: what is not the same in every job.
        seeds: how many runs there are.
        measure: what the figures of the networks are, in words.
        teacher: its accuracy, or what else is the headline of the task, in per cent.
        baseline: that of the student alone.
        student: that of the student taught.
        gap: the student taught minus the student alone of the same seed, in points.
        cost: the student's training time over that of the student alone.
        relative_error: the student's error over the teacher's.
        score: the distillation score.
        size: the student's over the teacher's, in per cent.
        unit: what sizes count: parameters, bytes or bits.
        weak: whether a teacher was no better than the student alone.
    """

    settings: str
    seeds: int
    measure: str
    teacher: Over | None
    baseline: Over | None
    student: Over | None
    gap: Over | None
    cost: Over | None
    relative_error: Over | None
    score: Over | None
    size: Over | None
    unit: str
    weak: bool


def line(settings: str, runs: Runs) -> Line:
    """What came of runs that differ in their seed alone."""
    def values(role: str, column: str) -> list[float | None]:
        return [row[column] if (row := run.get(role)) is not None else None for run in runs]

    def percent(role: str) -> list[float | None]:
        return [None if value is None else 100 * value for value in values(role, "headline_value")]

    alone, taught = percent("baseline"), percent("student")
    times = zip(values("student", "seconds"), values("baseline", "seconds"), strict=True)
    less = [run["student"].get("size_reduction_pct") if "student" in run else None for run in runs]
    units = [run["student"].get("size_unit") for run in runs if "student" in run]
    measure = next(measure_name(str(row["headline"])) for run in runs for row in run.values())
    return Line(
        settings, len(runs), measure, over(percent("teacher")), over(alone), over(taught),
        over([None if None in pair else pair[0] - pair[1] for pair in zip(taught, alone, strict=True)]),  # type: ignore[operator]
        over([own / theirs if own and theirs else None for own, theirs in times]),
        over(values("student", "relative_error")), over(values("student", "distillation_score")),
        over([None if value is None else 100 - value for value in less]), str(next(iter(units), None) or "parameters"),
        any(run["student"].get("weak_teacher") for run in runs if "student" in run))


def table(lines: Sequence[Line]) -> Group:
    """The lines as a table, the largest gap to the student alone first; what all have in common stands above it once."""
    ordered = sorted(lines, key=lambda one: (one.gap is None, -(one.gap.mean if one.gap else one.student.mean
                                                               if one.student else 0)))
    seeds = {one.seeds for one in lines}
    same = {name: {getattr(one, name) for one in lines if getattr(one, name) is not None} for name in ("teacher", "baseline")}
    above = [f"{'teacher' if name == 'teacher' else 'student alone'} {spread(*found)}"
             for name, found in same.items() if len(found) == 1]
    above += [f"over {counted(lines[0].seeds, 'seed')}"] if len(seeds) == 1 else []
    measures = " or ".join(dict.fromkeys(one.measure for one in lines))
    heading = measures.capitalize() if measures.islower() else measures  # mIoU stays as it is written
    title = ", ".join([f"{heading} in %, mean ± standard deviation", *above])
    sizes = {round(one.size.mean, 2) for one in lines if one.size is not None}
    notes = ["gap: to the student alone of the same seed, in points, with its 95 % confidence interval by Student's t",
             "time: of the student's training over the student's alone"]
    if len(sizes) > 1:
        notes.append(f"{lines[0].unit}: of the student, in per cent of the teacher's")
    if any(one.weak for one in lines):
        notes.append(f"{WEAK} the teacher is no better than the student alone: what compares with it looks better than it is")
    found = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)  # no column lines: the settings need the room
    found.add_column("settings", overflow="fold", min_width=12)
    columns = [("seeds", lambda one: str(one.seeds), len(seeds) > 1),
               ("teacher", lambda one: spread(one.teacher), len(same["teacher"]) > 1),
               ("alone", lambda one: spread(one.baseline), len(same["baseline"]) > 1),
               ("student", lambda one: spread(one.student), True),
               ("gap", lambda one: mean(one.gap, "+z.2f"), True),
               ("95 % interval", lambda one: bounds(one.gap), any(bounds(one.gap) != "–" for one in lines)),
               ("time", lambda one: mean(one.cost, ".2f", "×"), True),
               (f"{lines[0].unit} {LOWER}\nin %", lambda one: mean(one.size, ".2f"), len(sizes) > 1),
               (f"relative\nerror {LOWER}", lambda one: mean(one.relative_error, ".3f", WEAK * one.weak), True),
               (f"score {LOWER}", lambda one: mean(one.score, ".3f", WEAK * one.weak), True)]
    for name, _, there in columns:
        if there:
            found.add_column(name, justify="right", no_wrap=True)
    for one in ordered:
        found.add_row(one.settings, *(cell(one) for _, cell, there in columns if there))
    return Group(Text(title, style="bold"), found, Text("\n".join(notes), style="dim"))


def spread(values: Over | None) -> str:
    """A mean and its standard deviation, where there is more than one value."""
    return mean(values, ".2f") + (f" ± {values.deviation:.2f}" if values and values.deviation is not None else "")


def mean(values: Over | None, form: str, unit: str = "") -> str:
    """A mean; a dash where nothing is defined."""
    return "–" if values is None else f"{values.mean:{form}}{unit}"


def bounds(values: Over | None) -> str:
    """A confidence interval; a dash where there is none."""
    ends = interval(values)
    return "–" if ends is None else f"{ends[0]:+z.2f} to {ends[1]:+z.2f}"
