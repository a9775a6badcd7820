"""The surveys' tables of figures, with what was measured here beside each printed row: Gou 5 and 6, Alkhulaifi 1 and 2.

What was measured on the row's own data and networks stands in the first part, with its difference from the printed
figure; everything else stands in a part of its own, below a heading that says on what it was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from kdrun.analysis import published
from kdrun.analysis.league import by_conditions, weak_notes
from kdrun.analysis.measured import Measured, same_data, same_network
from kdrun.analysis.networks import printed_networks
from kdrun.analysis.statistics import FEWEST, INTERVAL, Over
from kdrun.analysis.table import (
    NONE,
    Column,
    Grid,
    Part,
    Row,
    limits,
    number,
    signed,
    spread,
    text,
    with_interval,
    with_mark,
)
from kdrun.config import registry

__all__ = ["SELECTIONS", "Selection", "accuracies", "reductions"]

Selection = Literal["all", "alkhulaifi"]
SELECTIONS: Final[tuple[Selection, ...]] = ("all", "alkhulaifi")
MARK = "†"  # a row with a note
ABSENT = "no method here"


def accuracies(table: str, found: Sequence[Measured]) -> Grid:
    """Gou's Table 5 or 6: method, accuracy, knowledge, scheme, pair and baselines; published and measured."""
    data = {"Gou 5": "CIFAR-10", "Gou 6": "CIFAR-100"}[table]
    rows, marked = published.rows(table), {row for row, _ in published.notes(table)}

    def same(row: published.Row, one: Measured) -> bool:
        cells = row.cells
        taught_by = one.first["peers"] or one.first["teacher"]
        own = cells["teacher"] is None or cells["teacher"].startswith(f"{cells['student']}+")  # its own teacher, or branches
        return (same_data(cells["dataset"], one.data) and same_network(cells["student"], one.first["student"])
                and (own or same_network(cells["teacher"], taught_by)))

    parts = beside(rows, found, same, lambda row, one, on_own: accuracy_row(row, one, on_own, row.name in marked))
    columns = [
        Column("method", lambda row: row["method"] + (MARK if row["noted"] else "")),
        Column("knowledge", lambda row: row["knowledge"]),
        Column("scheme", lambda row: row["scheme"]),
        Column("teacher", lambda row: text(row["teacher"])),
        Column("alone", lambda row: alone(row, "teacher"), right=True),
        Column("student", lambda row: text(row["student"])),
        Column("alone ", lambda row: alone(row, "student"), right=True),
        Column("published", lambda row: number(row["published"], 2), right=True),
        Column("gain", lambda row: signed(row["published_gain"], 2), right=True),
        Column("kdrun", lambda row: with_mark(row["kdrun"], row["weak_teacher"])),
        Column("n", lambda row: text(row["seeds"]), right=True, optional=True),
        Column("teacher ", lambda row: spread(row["measured_teacher"], 2), right=True, optional=True),
        Column("baseline", lambda row: spread(row["measured_baseline"], 2), right=True, optional=True),
        Column("measured", lambda row: spread(row["measured"], 2), right=True, optional=True, best=best("measured")),
        Column("gain [95 % interval]", lambda row: with_interval(row["measured_gain"], 2), right=True, optional=True,
               best=best("measured_gain")),
        Column("Δ", lambda row: signed(row["delta"], 2), right=True, optional=True),
        Column("Δ gain", lambda row: signed(row["delta_gain"], 2), right=True, optional=True),
    ]
    paper = [replace(column, show=lambda row: text(row["knowledge"]).replace(",", " + ")) if column.title == "knowledge" else
             HERE if column.title == "kdrun" else column for column in columns]
    narrow = [
        columns[0],
        Column("kind", lambda row: f"{row['knowledge'].replace(',', ' ')} {row['scheme']}"),
        Column("pair, alone", pair),
        Column("publ.", lambda row: lines(number(row["published"], 2), signed(row["published_gain"], 2)), right=True),
        Column("kdrun", lambda row: with_mark(row["kdrun"], row["weak_teacher"])),
        Column("n", lambda row: text(row["seeds"]), right=True),
        Column("measured", lambda row: lines(spread(row["measured"], 2), with_interval(row["measured_gain"], 2)),
               right=True),
        Column("Δ", lambda row: lines(signed(row["delta"], 2), signed(row["delta_gain"], 2)), right=True),
    ]
    notes = [
        "Accuracies in %; below an accuracy its gain over the student alone, in points; below networks their accuracies alone.",
        *([f"A measured gain comes with its {INTERVAL}."] if found else []),
        *weak_notes(found),
        "Δ: measured less published, the accuracy only where data and networks are those of the row, below it the gain.",
        *open_networks(rows),
        *common_notes(table, rows),
    ]
    return Grid(file_key(table), f"Gou et al. (2021), Table {table.split()[1]}: {data}", columns, parts, notes, narrow,
                paper=paper)


def accuracy_row(row: published.Row, one: Measured | None, on_own: bool, noted: bool) -> dict[str, Any]:
    """A printed row of Gou's Table 5 or 6, with one measurement beside it or none."""
    cells = row.cells
    alone_, reached = cells["student_baseline_accuracy"], cells["student_accuracy"]
    gain = None if alone_ is None else reached - alone_
    measured, measured_gain = (percent(one.accuracy), percent(one.gap)) if one else (None, None)
    return {
        "method": row.name, "knowledge": cells["knowledge"], "scheme": cells["scheme"],
        "knowledge_here": " / ".join("+".join(registry.method_card(key).knowledge) for key in row.methods) or None,
        "dataset": cells["dataset"],
        "teacher": cells["teacher"], "teacher_alone": cells["teacher_accuracy"],
        "teacher_after": cells["teacher_accuracy_after"], "student": cells["student"], "student_alone": alone_,
        "published": reached, "published_gain": gain, "kdrun": one.variant if one else ", ".join(row.systems) or ABSENT,
        "measured_on": one.comparison if one else None,
        "measured_by": one.measured_by if one else None, "seeds": one.accuracy.count if one else None,
        "measured_teacher": percent(one.teacher) if one else None, "measured_baseline": percent(one.baseline) if one else None,
        "measured": measured, "measured_gain": measured_gain, **limits(measured_gain, "measured_gain"),
        "weak_teacher": one.weak_teacher if one else False,
        "delta": measured.mean - reached if measured and on_own else None,
        "delta_gain": measured_gain.mean - gain if measured_gain and gain is not None else None, "noted": noted,
    }


def reductions(table: str, found: Sequence[Measured], select: Selection) -> Grid:
    """Alkhulaifi's Table 1 or 2: reduction against the teacher, improvement over the baseline, size reduction."""
    rows, marked = published.rows(table), {row for row, _ in published.notes(table)}

    def same(row: published.Row, one: Measured) -> bool:
        return same_data(row.cells["dataset"], one.data)  # of the networks only the family is printed

    parts = beside(rows, found, same, lambda row, one, _: reduction_row(row, one, row.name in marked), select)
    measures = (("reduction", "reduction"), ("improvement", "improvement"), ("size red.", "size_reduction"))
    columns = [
        Column("reference", lambda row: row["reference"] + (MARK if row["noted"] else "")),
        Column("scheme", lambda row: row["scheme"]),
        Column("architecture", lambda row: row["architecture"]),
        Column("data", lambda row: row["dataset"]),
        *(Column(title, printed(key), right=True) for title, key in measures),
        Column("kdrun", lambda row: with_mark(row["kdrun"], row["weak_teacher"])),
        Column("measured on", lambda row: text(row["measured_on"]), optional=True),
        Column("n", lambda row: text(row["seeds"]), right=True, optional=True),
        *(Column(f"{title} measured", found_of(key), right=True, optional=True) for title, key in measures),
    ]
    paper = [HERE if column.title == "kdrun" else column for column in columns if column.title != "measured on"]
    narrow = [
        columns[0],
        Column("architecture, data", lambda row: f"{row['architecture']}, {row['dataset']}"),
        Column("kdrun", lambda row: with_mark(row["kdrun"], row["weak_teacher"])),
        Column("n", lambda row: text(row["seeds"]), right=True),
        *(Column(title, stacked(key), right=True) for title, key in measures),
    ]
    notes = [
        "In % of the teacher's accuracy, of the baseline's, and of the teacher's size; the printed figure first, the measured "
        "one beside it or below. Where a student is better than its teacher: (inc); worse than its baseline: (dec).",
        *weak_notes(found),
        *(["The survey's own rule for rows: of several students the one with the largest size reduction, then of several data "
           "sets the one with the lowest reduction in accuracy."] if select == "alkhulaifi" else []),
        *common_notes(table, rows),
    ]
    kind = {"1": "from the teacher's soft labels", "2": "from other parts of the teacher too"}[table.split()[1]]
    return Grid(file_key(table), f"Alkhulaifi et al. (2021), Table {table.split()[1]}: {kind}", columns, parts, notes, narrow,
                paper=paper)


def reduction_row(row: published.Row, one: Measured | None, noted: bool) -> dict[str, Any]:
    """A printed row of Alkhulaifi's tables, with one measurement beside it or none."""
    cells = row.cells
    return {
        "reference": row.name, "scheme": cells["scheme"], "architecture": cells["architecture"], "dataset": cells["dataset"],
        "metric": cells["metric"], "reduction": cells["reduction_vs_teacher_pct"],
        "improvement": cells["improvement_vs_baseline_pct"], "improvement_max": cells["improvement_vs_baseline_pct_max"],
        "size_reduction": cells["size_reduction_pct"], "kdrun": one.variant if one else ", ".join(row.systems) or ABSENT,
        "measured_on": one.comparison if one else None, "measured_by": one.measured_by if one else None,
        "seeds": one.accuracy.count if one else None, "measured_reduction": one.reduction if one else None,
        "measured_improvement": one.improvement if one else None,
        "measured_size_reduction": one.size_reduction if one else None, "weak_teacher": one.weak_teacher if one else False,
        "noted": noted,
    }


def beside(rows: Sequence[published.Row], found: Sequence[Measured], same: Callable[[published.Row, Measured], bool],
           make: Callable[[published.Row, Measured | None, bool], dict[str, Any]], select: Selection = "all") -> list[Part]:
    """Every printed row with what was measured on its own data and networks; then, apart, what was measured on others."""
    def of(row: published.Row, candidates: Sequence[Measured]) -> list[Measured]:
        own = [one for one in candidates if {one.method, one.first["method"]} & {*row.systems}]
        return chosen(own) if select == "alkhulaifi" else own

    every = [(row, [one for one in of(row, found) if same(row, one)]) for row in rows]
    heading = "Published, and measured on the same data" if any(own for _, own in every) else "Published"
    parts = [Part(heading, [made for row, own in every
                            for made in [make(row, one, True) for one in own] or [make(row, None, True)]], comparable=False)]
    for heading, members in by_conditions(found):
        other = [make(row, one, False) for row in rows for one in of(row, found)
                 if one in members and not same(row, one)]
        if other:
            parts.append(Part(f"On other data or networks than the published rows, {heading}", other))
    return parts


def best(key: str) -> Callable[[Row], float | None]:
    """What a measure is compared by, of rows with seeds enough to say anything and a teacher worth learning from."""
    def value(row: Row) -> float | None:
        few = row["seeds"] is None or row["seeds"] < FEWEST
        return None if few or row["weak_teacher"] or row[key] is None else row[key].mean
    return value


def methods_in_print(row: Row) -> str:
    """The methods here that a printed row is about, or the one that was measured, by name: the row itself has the paper."""
    if row["kdrun"] == ABSENT:
        return NONE
    keys = row["kdrun"].split(", ") if row["seeds"] is None else [row["kdrun"]]
    return with_mark(" or ".join(published.in_print(key, cite=False) for key in keys), row["weak_teacher"])


HERE: Final = Column("method here", methods_in_print,
                     note=lambda row: "" if row["measured_on"] is None else f"measured on {row['measured_on']}")


def chosen(candidates: Sequence[Measured]) -> list[Measured]:
    """By the survey's rule: of each data set the student with the largest size reduction, of these the lowest reduction."""
    smallest: dict[str, Measured] = {}
    for one in candidates:
        if one.data not in smallest or value(one.size_reduction, 0) > value(smallest[one.data].size_reduction, 0):
            smallest[one.data] = one
    return sorted(smallest.values(), key=lambda one: value(one.reduction, float("inf")))[:1]


def value(measure: Over | None, default: float) -> float:
    """A mean, or what stands for none."""
    return default if measure is None else measure.mean


def percent(share: Over | None) -> Over | None:
    """A share in per cent."""
    return share and Over(100 * share.mean, None if share.deviation is None else 100 * share.deviation, share.count)


def alone(row: Row, role: str) -> str:
    """A printed baseline, with what the teacher became if it learned along."""
    after = row["teacher_after"] if role == "teacher" else None
    return number(row[f"{role}_alone"], 2) + (f" → {number(after, 2)}" if after is not None else "")


def pair(row: Row) -> str:
    """Teacher and student, below them what each has alone; where the student is its own teacher, the student."""
    names, figures = f"{row['teacher']} → {row['student']}", f"{alone(row, 'teacher')}, {alone(row, 'student')}"
    return f"{row['student']}\n{alone(row, 'student')}" if row["teacher"] is None else f"{names}\n{figures}"


def lines(*cells: str | None) -> str:
    """Cells one below the other; one dash where there is none."""
    said = [cell for cell in cells if cell is not None and cell != NONE]
    return "\n".join(said) if said else NONE


def worded(share: float | None, digits: int, key: str) -> str:
    """A percentage as the survey prints it: without a sign, and said which way it goes where it is the unusual one."""
    if share is None or share >= 0 or key == "size_reduction":
        return number(share, digits)
    return f"{number(-share, digits)} ({'inc' if key == 'reduction' else 'dec'})"


def printed(key: str) -> Callable[[Row], str]:
    """How a published percentage is shown."""
    def show(row: Row) -> str:
        most = row.get(f"{key}_max")
        return worded(row[key], 3, key) + (f" to {number(most, 3)}" if most is not None else "")
    return show


def found_of(key: str) -> Callable[[Row], str]:
    """How a measured percentage is shown."""
    def show(row: Row) -> str:
        one = row[f"measured_{key}"]
        return NONE if one is None else worded(one.mean, 3, key) + (
            "" if one.deviation is None else f" ± {number(one.deviation, 3)}")
    return show


def stacked(key: str) -> Callable[[Row], str]:
    """Published above measured."""
    def show(row: Row) -> str:
        one = row[f"measured_{key}"]
        return printed(key)(row) + ("" if row["seeds"] is None else "\n" + (NONE if one is None else worded(one.mean, 3, key)))
    return show


def open_networks(rows: Sequence[published.Row]) -> list[str]:
    """What a table does not say of its networks, and how they are read here."""
    names = dict.fromkeys(row.cells[role] for row in rows for role in ("teacher", "student"))
    known = printed_networks()
    return [f"{name}: {known[name].note}." for name in names if name in known and known[name].note]


def common_notes(table: str, rows: Sequence[published.Row]) -> list[str]:
    """Where a table is from, what it lacks here, and what is known of its figures."""
    absent = sum(not row.methods for row in rows)
    return [
        *([f"{absent} of {len(rows)} rows have no method here yet."] if absent else []),
        f"n: seeds; fewer than {FEWEST} say nothing about a method.",
        *(f"{MARK} {row + ': ' if row else ''}{words}" for row, words in published.notes(table)),
        f"Source: {published.source(table.split()[0])}.",
    ]


def file_key(table: str) -> str:
    """The name of a table's files: "Gou 5" is gou_5."""
    return table.lower().replace(" ", "_")
