"""Everything measured, ranked where it may be: the league table, and the distillation scores."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, Literal

from kdrun.analysis import published
from kdrun.analysis.measured import Measured, Scoring
from kdrun.analysis.published import in_print
from kdrun.analysis.statistics import FEWEST, MOST, Test, caption, holm, over, paired_p, possible, seeds_needed, verdict
from kdrun.analysis.table import (
    NONE,
    WEAK,
    Column,
    Grid,
    Part,
    Row,
    limits,
    number,
    spread,
    text,
    with_interval,
    with_mark,
)
from kdrun.config.registry import natural
from kdrun.evaluation import scores

__all__ = ["SORTS", "Sort", "by_conditions", "league", "score_table", "weak_notes"]

Sort = Literal["accuracy", "gap", "score", "relative_error", "factor", "method"]
SORTS: Final[dict[Sort, int]] = {"accuracy": -1, "gap": -1, "score": 1, "relative_error": 1, "factor": -1, "method": 1}
"""By what the league table may be sorted; 1 where the smallest comes first."""

LEAGUE = ("rank", "method", "scheme", "knowledge", "family", "seeds", "accuracy", "gap", "gap_ci_low", "gap_ci_high", "p",
          "p_holm", "test", "testable", "needs", "verdict", "weak_teacher", "score", "relative_error", "factor", "measured_by",
          "comparison")
NOTHING = "Nothing measured yet: there is no finished run. Run one, as kdrun -m method=kd,fitnets,at seed=1,2,3, and ask again."


def by_conditions(found: Iterable[Measured]) -> list[tuple[str, list[Measured]]]:
    """Groups that may be ranked: measured by the same, on the same data, teacher, student and recipe."""
    return [(name, list(members)) for name, members in groupby(found, lambda one: one.conditions)]


def league(found: Sequence[Measured], test: Test, sort: Sort, scoring: Scoring, rank_weak: bool = False) -> Grid:
    """Every method measured, ranked within its own conditions.

    Args:
        found: what was measured.
        test: against the baseline.
        sort: by what.
        scoring: of the distillation score.
        rank_weak: whether to rank methods too whose teacher is no better than the student alone.
    """
    measure = measures(found)
    first = [
        Column("#", lambda row: text(row["rank"]), right=True),
        Column("method", lambda row: with_mark(row["method"], row["weak_teacher"])),
        Column("n", lambda row: text(row["seeds"]), right=True),
        Column(measure, lambda row: spread(row["accuracy"], 2, 100), right=True, best=best("accuracy")),
        Column("gap [95 % interval]", lambda row: with_interval(row["gap"], 2, 100), right=True, best=best("gap")),
        Column("p", lambda row: p_value(row["p_holm"] if row["testable"] else None), right=True),
        Column("n needed", needed, right=True),
        Column("verdict", lambda row: text(row["verdict"]), line=True),
    ]
    figures = (("score ↓", "score", 3), ("relative error ↓", "relative_error", 2), ("factor", "factor", 2))
    columns = [*first, *(Column(title, showing(key, digits), right=True, best=best(key)) for title, key, digits in figures)]
    paper = [replace(column, show=lambda row: with_mark(in_print(row["method"]), row["weak_teacher"]))
             if column.title == "method" else column for column in columns]
    parts = [Part(heading_of(heading, members), ranked(members, test, sort, rank_weak))
             for heading, members in by_conditions(found)]
    notes = [
        f"Means ± sample standard deviations over n seeds; {measure} in %, gap to the student alone of the same seed in "
        "points.",
        *caption(test, [[len(one.gaps) for one in members if tested(one)] for _, members in by_conditions(found)]),
        f"Score: distillation score with alpha {scoring.alpha:g}, sizes in {scoring.size_unit}; "
        "relative error: student's over teacher's; factor: teacher's parameters over student's. ↓: the lower the better.",
        *weak_notes(found, None if rank_weak else "not ranked, unless by --rank-weak-teachers"),
        "A line between parts is a border: other data, teacher, student, recipe or machine, not to be ranked together.",
    ]
    by = measure if sort in ("method", "accuracy") else sort
    return Grid("league", f"League table, ranked by {by}", columns, parts,
                notes if parts else [], first, NOTHING, paper)


def measures(found: Iterable[Measured]) -> str:
    """What the figures of networks are called that are measured by these measures."""
    names = dict.fromkeys(one.headline for one in found)
    return "accuracy" if not names else next(iter(names)) if len(names) == 1 else "headline"


def heading_of(heading: str, members: Sequence[Measured]) -> str:
    """The heading of a part, with the measure where it is no accuracy."""
    return heading if members[0].headline == "accuracy" else f"{heading}; {members[0].headline}"


def best(key: str) -> Callable[[Row], float | None]:
    """What a measure of the methods that have a rank is compared by; the larger the better."""
    def value(row: Row) -> float | None:
        return None if row["rank"] is None or row[key] is None else -SORTS[key] * row[key].mean  # type: ignore[index]
    return value


def weak_notes(found: Iterable[Measured], left_out: str | None = None) -> list[str]:
    """What the mark of a weak teacher means, with the accuracies; nothing where no teacher is weak.

    Args:
        found: what the table shows.
        left_out: what happens to such rows; None for nothing.
    """
    pairs = dict.fromkeys(f"{100 * one.teacher.mean:.2f} % against {100 * one.baseline.mean:.2f} %" for one in found
                          if one.weak_teacher and one.teacher and one.baseline)
    return [f"{WEAK}: the teacher is no better than the student alone ({'; '.join(pairs)}), so that score and relative error "
            f"look better than they are{'; ' + left_out if left_out else ''}."] if pairs else []


def tested(one: Measured) -> bool:
    """Whether it is one of the methods that are tested together: no distillation is the baseline itself."""
    return one.first["family"] != "baseline" and len(one.gaps) > 0


def needed(row: Row) -> str:
    """How many seeds a row needs, in few characters."""
    return NONE if row["needs"] is None else f"> {MOST}" if row["needs"] > MOST else str(row["needs"])


def ranked(members: Sequence[Measured], test: Test, sort: Sort, rank_weak: bool) -> list[dict[str, Any]]:
    """Rows of one part: teacher and baseline first, then the methods, those without a rank last.

    No rank have those of too few seeds, and those whose teacher is no better than the student alone.
    """
    own = [one for one in members if tested(one)]
    ps = [paired_p(one.gaps, test) for one in own]
    testable = possible([len(one.gaps) for one in own], test)
    tests = {id(one): (p, corrected, can) for one, p, corrected, can in zip(own, ps, holm(ps), testable, strict=True)}

    def row(one: Measured) -> dict[str, Any]:
        p, corrected, can = tests.get(id(one), (None, None, False))
        alone = one.first["family"] == "baseline"
        return {
            **dict.fromkeys(LEAGUE), "method": one.variant, "scheme": one.first["scheme"],
            "knowledge": one.first["knowledge"], "family": one.first["family"], "seeds": one.accuracy.count,
            "accuracy": one.accuracy, "gap": one.gap, **limits(one.gap, "gap"), "p": p, "p_holm": corrected,
            "test": test if p is not None else None, "testable": can,
            "needs": None if alone else seeds_needed(one.gap, test, len(own)),
            "verdict": "is the baseline" if alone else verdict(one.gap, corrected, can), "weak_teacher": one.weak_teacher,
            "score": one.score, "relative_error": one.relative_error, "factor": one.factor, "measured_by": one.measured_by,
            "comparison": one.comparison,
        }

    def out(row: Row) -> bool:
        return row["seeds"] < FEWEST or (row["weak_teacher"] and not rank_weak)

    rows = sorted(map(row, members), key=lambda row: (out(row), order(row, sort), natural(row["method"])))
    leading = order_by("accuracy" if sort == "method" else sort)
    full = [row for row in rows if not out(row) and leading(row) < math.inf]
    for own_row in full:
        own_row["rank"] = 1 + sum(leading(other) < leading(own_row) for other in full)
    return [*references(members), *rows]


def order(row: dict[str, Any], sort: Sort) -> float:
    """Where a row comes by a column; last without a value. By method all are equal."""
    value = None if sort == "method" else row[sort]
    return (0.0 if sort == "method" else math.inf) if value is None else SORTS[sort] * round(value.mean, 12)


def order_by(sort: Sort) -> Callable[[dict[str, Any]], float]:
    """`order` by one column."""
    return lambda row: order(row, sort)


def references(members: Sequence[Measured]) -> list[dict[str, Any]]:
    """The teacher and the student alone, a value a seed, whichever method it was measured beside."""
    found = []
    for name, values in (("teacher", {seed: value for one in members for seed, value in one.teachers.items()}),
                         ("student alone", {seed: value for one in members for seed, value in one.baselines.items()})):
        if values:
            found.append(dict.fromkeys(LEAGUE) | {
                "method": name, "weak_teacher": False, "seeds": len(values), "accuracy": over(list(values.values())),
                "comparison": members[0].comparison, "measured_by": members[0].measured_by})
    return found


def showing(key: str, digits: int) -> Callable[[Row], str]:
    """How a mean is shown, with its spread."""
    return lambda row: spread(row[key], digits)


def p_value(p: float | None) -> str:
    """A p with three decimals."""
    return NONE if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def score_table(found: Sequence[Measured], scoring: Scoring, rank_weak: bool = False) -> Grid:
    """The distillation score: the survey's worked example recomputed, and everything measured, best first.

    Args:
        found: what was measured.
        scoring: of the score.
        rank_weak: whether a method may be the best whose teacher is no better than the student alone.
    """
    columns = [
        Column("system", lambda row: with_mark(row["system"], row.get("weak_teacher", False))),
        Column("n", lambda row: text(row["seeds"]), right=True, optional=True),
        Column("size, %", lambda row: number(row["size_ratio"], 2, 100), right=True),
        Column("teacher", lambda row: spread(row["teacher"], 2, 100), right=True),
        Column("student", lambda row: spread(row["student"], 2, 100), right=True),
        Column("printed", lambda row: number(row["printed"], 3), right=True, optional=True),
        Column("score ↓", lambda row: spread(row["score"], 3), right=True, best=lambda row: float(row["best"])),
        Column("", lambda row: "best" if row["best"] else ""),
    ]
    example = published.worked_example()
    printed_alpha = example[0]["alpha"]
    system = ", ".join(example[0][column] for column in ("source", "architecture", "dataset"))
    parts = [Part(f"Worked example of Alkhulaifi et al.: students of {system}; alpha {alpha:g}",
                  best_first([example_row(row, alpha, printed_alpha) for row in example]))
             for alpha in dict.fromkeys([printed_alpha, scoring.alpha])]
    for heading, members in by_conditions(found):
        rows = [{"system": one.variant, "seeds": one.accuracy.count,
                 "size_ratio": one.size_ratio.mean if one.size_ratio else None, "teacher": one.teacher,
                 "student": one.accuracy, "printed": None, "score": one.score,
                 "alpha": scoring.alpha, "size_unit": scoring.size_unit, "weak_teacher": one.weak_teacher}
                for one in members if one.score]
        if rows:
            parts.append(Part(f"{heading_of(heading, members)}; alpha {scoring.alpha:g}, sizes in {scoring.size_unit}",
                              best_first(rows, rank_weak)))
    notes = ["score = alpha · size / teacher's size + (1 - alpha) · (1 - accuracy / teacher's accuracy); the lower the better, "
             "and below 0 where a student is better than its teacher. Not comparable across data sets or teachers.",
             "Methods without a trained teacher have no score. Best: the lowest mean of a part, not a test.",
             *weak_notes(found, None if rank_weak else "never the best, unless by --rank-weak-teachers"),
             *(words for _, words in published.notes("worked example"))]
    paper = [replace(columns[0], show=lambda row: with_mark(in_print(row["system"]), row.get("weak_teacher", False))),
             *columns[1:-1]]
    return Grid("distillation_score", "Distillation score", columns, parts, notes, paper=paper)


def example_row(row: dict[str, Any], alpha: float, printed_alpha: float) -> dict[str, Any]:
    """A row of the worked example, its score computed from its own figures."""
    ratio, student, teacher = (row[key] / 100 for key in ("relative_size_pct", "student_accuracy", "teacher_accuracy"))
    return {"system": f"{row['relative_size_pct']:g} % of its size", "seeds": None, "size_ratio": ratio,
            "teacher": over([teacher]), "student": over([student]),
            "printed": row["distillation_score"] if alpha == printed_alpha else None,
            "score": over([scores.distillation_score(ratio, 1, student, teacher, alpha)]), "alpha": alpha, "size_unit": None}


def best_first(rows: Sequence[dict[str, Any]], rank_weak: bool = True) -> list[dict[str, Any]]:
    """By score, the lowest marked; those of a weak teacher come last if they are not ranked."""
    def out(row: dict[str, Any]) -> bool:
        return bool(row.get("weak_teacher")) and not rank_weak

    least = min((row["score"].mean for row in rows if not out(row)), default=None)
    return [row | {"best": row["score"].mean == least and not out(row)}
            for row in sorted(rows, key=lambda row: (out(row), row["score"].mean))]
