"""Everything measured, ranked where it may be: the league table, and the distillation scores."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final, Literal

from kdrun import scores
from kdrun.catalogue import natural
from kdrun.survey import published
from kdrun.survey.grid import NONE, Column, Grid, Part, Row, number, spread, text
from kdrun.survey.measured import Measured, Scoring
from kdrun.survey.statistics import FEWEST, Test, caption, holm, over, paired_p, verdict

__all__ = ["SORTS", "Sort", "by_conditions", "league", "score_table"]

Sort = Literal["accuracy", "gap", "score", "relative_error", "factor", "method"]
SORTS: Final[dict[Sort, int]] = {"accuracy": -1, "gap": -1, "score": 1, "relative_error": 1, "factor": -1, "method": 1}
"""By what the league table may be sorted; 1 where the smallest comes first."""

LEAGUE = ("rank", "method", "scheme", "knowledge", "family", "seeds", "accuracy", "gap", "p", "p_holm", "test", "verdict",
          "score", "relative_error", "factor", "measured_by", "comparison")
NOTHING = "Nothing measured yet: there is no finished run. Run one, as kdrun -m method=kd,fitnets,at seed=1,2,3, and ask again."


def by_conditions(found: Iterable[Measured]) -> list[tuple[str, list[Measured]]]:
    """Groups that may be ranked: measured by the same, on the same data, teacher, student and recipe."""
    return [(name, list(members)) for name, members in groupby(found, lambda one: one.conditions)]


def league(found: Sequence[Measured], test: Test, sort: Sort, scoring: Scoring) -> Grid:
    """Every method measured, ranked within its own conditions."""
    first = [
        Column("#", lambda row: text(row["rank"]), right=True),
        Column("method", lambda row: row["method"]),
        Column("n", lambda row: text(row["seeds"]), right=True),
        Column("accuracy", lambda row: spread(row["accuracy"], 2, 100), right=True),
        Column("gap", lambda row: spread(row["gap"], 2, 100, sign=True), right=True),
        Column("p", lambda row: p_value(row["p_holm"]), right=True),
        Column("verdict", lambda row: text(row["verdict"])),
    ]
    figures = (("score", "score", 3), ("relative error", "relative_error", 2), ("factor", "factor", 2))
    columns = [*first, *(Column(title, showing(key, digits), right=True) for title, key, digits in figures)]
    narrow = [*first, Column("score", showing("score", 3, spreads=False), right=True)]
    parts = [Part(heading, ranked(members, test, sort)) for heading, members in by_conditions(found)]
    notes = [
        "Means ± sample standard deviations over n seeds; accuracy in %, gap to the student alone of the same seed in points.",
        *caption(test, [len(one.gaps) for one in found]),
        f"Score: distillation score with alpha {scoring.alpha:g}, sizes in {scoring.size_unit}, the lower the better; "
        "relative error: student's over teacher's; factor: teacher's parameters over student's.",
        "A line between parts is a border: other data, teacher, student, recipe or machine, not to be ranked together.",
    ]
    return Grid("league", f"League table, ranked by {sort if sort != 'method' else 'accuracy'}", columns, parts,
                notes if parts else [], narrow, NOTHING)


def ranked(members: Sequence[Measured], test: Test, sort: Sort) -> list[dict[str, Any]]:
    """Rows of one part: teacher and baseline first, then the methods, those of too few seeds last and without a rank."""
    # no distillation is the baseline itself: it is not tested against itself, and does not count in the correction
    ps = [None if one.first["family"] == "baseline" else paired_p(one.gaps, test) for one in members]
    rows = [{
        **dict.fromkeys(LEAGUE), "method": one.variant, "scheme": one.first["scheme"], "knowledge": one.first["knowledge"],
        "family": one.first["family"], "seeds": one.accuracy.count, "accuracy": one.accuracy, "gap": one.gap,
        "p": p, "p_holm": corrected, "test": test if p is not None else None,
        "verdict": "is the baseline" if one.first["family"] == "baseline" else verdict(one.gap, corrected),
        "score": one.score, "relative_error": one.relative_error, "factor": one.factor, "measured_by": one.measured_by,
        "comparison": one.comparison,
    } for one, p, corrected in zip(members, ps, holm(ps), strict=True)]
    rows.sort(key=lambda row: (row["seeds"] < FEWEST, order(row, sort), natural(row["method"])))
    leading = order_by("accuracy" if sort == "method" else sort)
    full = [row for row in rows if row["seeds"] >= FEWEST and leading(row) < math.inf]
    for row in full:
        row["rank"] = 1 + sum(leading(other) < leading(row) for other in full)
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
                "method": name, "seeds": len(values), "accuracy": over(list(values.values())),
                "comparison": members[0].comparison, "measured_by": members[0].measured_by})
    return found


def showing(key: str, digits: int, spreads: bool = True) -> Callable[[Row], str]:
    """How a mean is shown, with its spread or without."""
    return lambda row: spread(row[key], digits) if spreads else number(row[key].mean if row[key] else None, digits)


def p_value(p: float | None) -> str:
    """A p with three decimals."""
    return NONE if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def score_table(found: Sequence[Measured], scoring: Scoring) -> Grid:
    """The distillation score: the survey's worked example recomputed, and everything measured, best first."""
    columns = [
        Column("system", lambda row: row["system"]),
        Column("n", lambda row: text(row["seeds"]), right=True, optional=True),
        Column("size, %", lambda row: number(row["size_ratio"], 2, 100), right=True),
        Column("teacher", lambda row: spread(row["teacher"], 2, 100), right=True),
        Column("student", lambda row: spread(row["student"], 2, 100), right=True),
        Column("printed", lambda row: number(row["printed"], 3), right=True, optional=True),
        Column("score", lambda row: spread(row["score"], 3), right=True),
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
                 "alpha": scoring.alpha, "size_unit": scoring.size_unit} for one in members if one.score]
        if rows:
            parts.append(Part(f"{heading}; alpha {scoring.alpha:g}, sizes in {scoring.size_unit}", best_first(rows)))
    notes = ["score = alpha · size / teacher's size + (1 - alpha) · (1 - accuracy / teacher's accuracy); the lower the better, "
             "and below 0 where a student is better than its teacher. Not comparable across data sets or teachers.",
             "Methods without a trained teacher have no score. Best: the lowest mean of a part, not a test.",
             *(words for _, words in published.notes("worked example"))]
    return Grid("distillation_score", "Distillation score", columns, parts, notes)


def example_row(row: dict[str, Any], alpha: float, printed_alpha: float) -> dict[str, Any]:
    """A row of the worked example, its score computed from its own figures."""
    ratio, student, teacher = (row[key] / 100 for key in ("relative_size_pct", "student_accuracy", "teacher_accuracy"))
    return {"system": f"{row['relative_size_pct']:g} % of its size", "seeds": None, "size_ratio": ratio,
            "teacher": over([teacher]), "student": over([student]),
            "printed": row["distillation_score"] if alpha == printed_alpha else None,
            "score": over([scores.distillation_score(ratio, 1, student, teacher, alpha)]), "alpha": alpha, "size_unit": None}


def best_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By score, the lowest marked."""
    least = min(row["score"].mean for row in rows)
    return [row | {"best": row["score"].mean == least} for row in sorted(rows, key=lambda row: row["score"].mean)]
