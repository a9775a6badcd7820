"""What may stand in one picture: runs on the same data, with the same teacher and recipe, as means over their seeds."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kdrun.analysis.comparability import comparison, same_label
from kdrun.analysis.plots.style import ALONE, TEACHER, Look, look_of, shown
from kdrun.analysis.statistics import FEWEST, Over, over
from kdrun.analysis.table import WEAK
from kdrun.config.registry import natural
from kdrun.evaluation import scores
from kdrun.utils.wording import measure_name

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from kdrun.analysis.run_index import Collection

__all__ = ["Entry", "Page", "Panel", "best_by_alpha", "front", "pages", "panels", "seeds_said", "weak_said"]

PER_PAGE: Final = 12  # small pictures in one


@dataclass(frozen=True)
class Entry:
    """A network in a picture: a teacher, a student alone, or a student taught in one way, over its seeds.

    Attributes:
        role: teacher, baseline or student.
        network: its name.
        variant: the method, with what was set otherwise than usual; empty for the other roles.
        label: what is written beside it, with the number of seeds where those are few.
        runs: the runs that it is in.
        accuracy: in per cent; where samples are not classified, what else is the headline of the task.
        relative_error: the error over the teacher's.
        factor: the teacher's parameters over its own.
        loss: the distillation score at alpha 0: the share of the teacher's accuracy that is lost.
        size: the distillation score at alpha 1: the share of the teacher's size.
        look: colour and marker.
        weak: whether its teacher is no better than the student alone.
    """

    role: str
    network: str
    variant: str
    label: str
    runs: tuple[str, ...]
    accuracy: Over
    relative_error: Over | None
    factor: Over | None
    loss: Over | None
    size: Over | None
    look: Look
    weak: bool = False

    @property
    def few(self) -> bool:
        """Whether its seeds are too few to tell anything from."""
        return self.accuracy.count < FEWEST

    @property
    def short(self) -> str:
        """The label where the network is told elsewhere."""
        name = {"teacher": "teacher", "baseline": "alone"}.get(self.role, shown(self.variant))
        name += f" {WEAK}" if self.weak else ""
        return f"{name} (n={self.accuracy.count})" if self.few else name

    def score(self, alpha: float) -> float:
        """The mean distillation score at an alpha: a straight line between its two ends."""
        assert self.loss is not None
        assert self.size is not None
        return alpha * self.size.mean + (1 - alpha) * self.loss.mean


@dataclass(frozen=True)
class Panel:
    """Runs that may stand in one picture.

    Attributes:
        label: what they share, in words that end in a digest of it.
        students: the student's row of each run, as `Collection.students` has it.
        collection: where they are from.
        rank_weak: whether a method may be the best of all whose teacher is no better than the student alone.
    """

    label: str
    students: "DataFrame"
    collection: "Collection"
    rank_weak: bool = False

    @property
    def slug(self) -> str:
        """The label as a part of a file's name."""
        words = re.sub(r"\W+", "-", self.label).strip("-")
        return words if len(words) <= 100 else f"{words[:93]}-{words[-6:]}"

    @property
    def headline(self) -> str:
        """The column of what the runs are compared by."""
        return str(self.students["headline"].iloc[0])

    @property
    def headline_name(self) -> str:
        """The same in words."""
        return measure_name(self.headline)

    @cached_property
    def networks(self) -> list[str]:
        """The students' networks, in natural order."""
        return sorted(set(self.students["student"]), key=natural)

    @cached_property
    def comparisons(self) -> list["Panel"]:
        """The same, apart by the student's network, where something is drawn that only networks of one kind share."""
        return [replace(self, label=str(label), students=rows)
                for label, rows in self.students.groupby("comparison", sort=True)]

    @cached_property
    def look(self) -> dict[str, Look]:
        """Of each variant: that of its method."""
        return {str(name): look_of(str(method)) for name, method in zip(self.students["variant"], self.students["method"],
                                                                        strict=True)}

    def ranked(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that may be the best of all."""
        return [entry for entry in entries if self.rank_weak or not entry.weak]

    @property
    def variants(self) -> dict[str, "Series"]:
        """The runs of each variant, in natural order."""
        runs = {str(name): rows["run"] for name, rows in self.students.groupby("variant", sort=False)}
        return {name: runs[name] for name in sorted(runs, key=natural)}

    @property
    def once(self) -> "Series":
        """One run for each seed: in all of them are the same teacher and baseline."""
        return self.students.drop_duplicates("seed", keep="last")["run"]

    @cached_property
    def baselines(self) -> "DataFrame":
        """The row of the student alone of every run, where there is one."""
        rows = self.collection.results
        return rows[(rows["role"] == "baseline") & rows["run"].isin(self.students["run"])].set_index("run")

    def entries(self, size_unit: str = "parameters") -> list[Entry]:
        """The teacher, each student alone, and each student as it was taught, in this order.

        Args:
            size_unit: what the distillation score's sizes count: parameters, bytes or bits.
        """
        found = []
        taught = self.students[self.students["teacher_headline"].notna()]
        if len(taught):
            name = str(taught["teacher"].iloc[0])
            rows = taught.drop_duplicates("seed", keep="last")
            found.append(self.entry("teacher", name, "", rows, rows["teacher_headline"], rows[f"teacher_{size_unit}"],
                                    rows["teacher_parameters"], size_unit, f"teacher {name}", TEACHER))
        several = len(self.networks) > 1
        for network in self.networks:
            rows = self.students[self.students["student"] == network]
            alone = rows[rows["baseline_headline"].notna() & rows["run"].isin(self.baselines.index)]
            alone = alone.sort_values("teacher_headline", kind="stable", na_position="first")  # with a teacher beside it if any
            alone = alone.drop_duplicates("seed", keep="last")
            if len(alone):
                own = self.baselines.loc[alone["run"]]
                found.append(self.entry("baseline", network, "", alone, alone["baseline_headline"], own[size_unit],
                                        own["parameters"], size_unit, f"{network} alone", ALONE))
        for network in self.networks:
            rows = self.students[self.students["student"] == network]
            for variant in sorted(set(rows["variant"]), key=natural):
                own = rows[rows["variant"] == variant]
                label = f"{variant}, {network}" if several else variant
                found.append(self.entry("student", network, variant, own, own["headline_value"], own[size_unit],
                                        own["parameters"], size_unit, label, self.look[variant]))
        return found

    def entry(self, role: str, network: str, variant: str, rows: "DataFrame", accuracies: Iterable[float],
              sizes: Iterable[Any], parameters: Iterable[Any], size_unit: str, label: str, look: Look) -> Entry:
        """One of `entries`: its values seed by seed beside the teacher's of the same run, then over the seeds."""
        own = [as_float(value) for value in accuracies]
        theirs = [as_float(value) for value in rows["teacher_headline"]]
        accuracy = over([None if value is None else 100 * value for value in own])
        assert accuracy is not None  # a run without an accuracy is not collected

        def beside(measure: Callable[[Any, Any], float | None], left: Iterable[Any], right: Iterable[Any]) -> Over | None:
            return over([measure(one, other) if one is not None and other is not None else None
                         for one, other in zip(map(as_float, left), map(as_float, right), strict=True)])

        def share(part: float, whole: float) -> float | None:
            return part / whole if whole else None

        def lost(student: float, teacher: float) -> float | None:
            return scores.distillation_score(1, 1, student, teacher, alpha=0)

        weak = role == "student" and weakly_taught(rows)
        few = (f" {WEAK}" if weak else "") + (f" (n={accuracy.count})" if accuracy.count < FEWEST else "")
        return Entry(role, network, variant, shown(label) + few, tuple(rows["run"]), accuracy,
                     beside(scores.relative_error, own, theirs),
                     beside(scores.distillation_factor, parameters, rows["teacher_parameters"]),
                     beside(lost, own, theirs), beside(share, sizes, rows[f"teacher_{size_unit}"]), look, weak)


def weakly_taught(rows: "DataFrame") -> bool:
    """Whether the teacher of these runs is no better than their student alone, on average."""
    both = rows.dropna(subset=["teacher_headline", "baseline_headline"])
    return len(both) > 0 and scores.weak_teacher(float(both["teacher_headline"].mean()),
                                                 float(both["baseline_headline"].mean()))


def weak_said(weak: bool, ranked: bool) -> str:
    """What the mark of a weak teacher means, for a caption; nothing where there is none."""
    left_out = "" if ranked else ", and the method is not ranked"
    return f" {WEAK}: the teacher is no better than the student alone, which flatters what is measured against it{left_out}." \
        if weak else ""


def as_float(value: Any) -> float | None:
    """A field of a table as a number; None where it is null."""
    import pandas

    return None if pandas.isna(value) else float(value)


def panels(collection: "Collection", rank_weak: bool = False) -> list[Panel]:
    """The runs of a collection, apart by what must not be ranked together, in order of their labels."""
    students = collection.students
    students = students[students["run"].isin(collection.runs)]
    # the label of a comparison, with one student for all
    labels = [comparison({**told, "settings": {**told["settings"], "student": {"name": "students"}}})
              for told in collection.runs.values()]
    shared = students["run"].map(dict(zip(collection.runs, same_label(labels), strict=True)))
    return [Panel(str(label), rows, collection, rank_weak) for label, rows in students.groupby(shared, sort=True)]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other is at least as good as in both and better in one: the Pareto front, by rising first coordinate.

    More is better, in both. Of equal points all are in it.
    """
    def beaten(own: tuple[float, float]) -> bool:
        return any(other[0] >= own[0] and other[1] >= own[1] and other != own for other in points)

    return sorted((place for place, own in enumerate(points) if not beaten(own)), key=lambda place: points[place])


def best_by_alpha(lines: Mapping[str, tuple[float, float]]) -> list[tuple[float, float, str]]:
    """Which line is the lowest, from where to where.

    Args:
        lines: values at alpha 0 and at alpha 1, by name.

    Returns:
        (from, to, name) for each stretch of alpha, from 0 to 1. Where lines are the same all along, the first is named.
    """
    values = list(lines.values())
    crossings = {0.0, 1.0}
    for place, (start, end) in enumerate(values):
        for other_start, other_end in values[place + 1:]:
            apart, closing = other_start - start, (other_start - start) - (other_end - end)
            if closing and 1e-6 < apart / closing < 1 - 1e-6:
                crossings.add(apart / closing)
    found: list[tuple[float, float, str]] = []
    ordered = sorted(crossings)
    for low, high in pairwise(ordered):
        alpha = (low + high) / 2
        name = min(lines, key=lambda name: round((1 - alpha) * lines[name][0] + alpha * lines[name][1], 12))
        if found and found[-1][2] == name:
            found[-1] = found[-1][0], high, name
        else:
            found.append((low, high, name))
    return found


def seeds_said(counts: Iterable[int], spread: str = "bars", few: str = "hollow") -> str:
    """Over how many seeds the means of a picture are, what shows their spread, and what few of them look like."""
    known = sorted(set(counts))
    said = f"Means over n = {known[0]} seed{'' if known == [1] else 's'}"
    if len(known) > 1:
        said = f"Means over n = {known[0]} to {known[-1]} seeds"
    if known[-1] > 1 and spread:
        said += f", {spread}: ± 1 standard deviation"
    return said + (f"; {few}: fewer than {FEWEST} seeds, too few to tell a difference." if few and known[0] < FEWEST else ".")


class Page(NamedTuple):
    """As many small pictures as one picture holds.

    Attributes:
        names: of what is in it.
        which: for its title: " (1 of 2)", or nothing.
        tail: for its file's name.
    """

    names: list[str]
    which: str
    tail: str


def pages(names: Sequence[str]) -> list[Page]:
    """Names in pictures of up to `PER_PAGE`."""
    starts = range(0, len(names), PER_PAGE)
    if len(starts) == 1:
        return [Page(list(names), "", "")]
    return [Page(list(names[start:start + PER_PAGE]), f" ({number} of {len(starts)})", f"-{number}")
            for number, start in enumerate(starts, start=1)]
