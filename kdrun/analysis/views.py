"""The methods by the surveys' own orders: what of each class is built, and what was measured of it.

Nothing here names a method: families, forms and schemes follow from what the methods' cards say, the tree of Alkhulaifi
from the printed rows that methods are about, and the relation of a student to its teacher from the networks of the runs.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kdrun.analysis import published
from kdrun.analysis.measured import Measured
from kdrun.analysis.statistics import Over
from kdrun.analysis.table import Column, Grid, Part, limits, number, signed, spread, text, with_interval, with_mark
from kdrun.config import registry
from kdrun.config.registry import MethodCard
from kdrun.utils.wording import counted

__all__ = ["families", "student_kind", "taxonomy"]

FAMILIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "adversarial": ("a discriminator tells teacher from student, or a generator makes what they learn from",
                    ("Gou section 6.1",)),
    "multi-teacher": ("several teachers, at once or one after the other", ("Gou section 6.2", "Gou 3")),
    "cross-modal": ("teacher and student see different modalities or domains", ("Gou section 6.3", "Gou 4")),
    "graph-based": ("a graph is what is transferred, or says who teaches whom", ("Gou section 6.4",)),
    "attention-based": ("where a network looks, or which of several sources it trusts", ("Gou section 6.5",)),
    "data-free": ("without the training data, or with little of it", ("Gou section 6.6",)),
    "quantized": ("a student of few bits", ("Gou section 6.7",)),
    "lifelong": ("what was learned before is kept; meta-learning too", ("Gou section 6.8",)),
    "NAS-based": ("the student is searched for, or distillation guides a search", ("Gou section 6.9",)),
}
"""Gou's sections 6.1 to 6.9, which are Kumar's nine in the same order: a line on each, and where its methods are cited."""
OTHER: Final = "none of the nine"

KINDS: Final = ("response", "feature", "relation")
SCHEMES: Final = ("offline", "online", "self")
CHEAP: Final = ("mobilenet", "shufflenet", "densenet")  # whose layers Gou calls efficient basic operations
STUDENTS: Final[dict[str, str]] = {
    "simplified": "fewer layers or channels than the teacher", "quantized": "fewer bits, its structure kept",
    "efficient": "a small network of efficient operations", "the same": "the same network as its teacher, or no teacher",
    "larger": "more parameters than the teacher (beyond the figure)",
}
"""Gou's Figure 10, without the fourth relation, an optimised structure, which needs a search."""


def cards() -> list[MethodCard]:
    """Every method that carries something over."""
    found = [registry.method_card(key) for key in registry.options("method")]
    return [card for card in found if card.knowledge or card.family not in ("baseline", "composed")]


def families_of(card: MethodCard) -> list[str]:
    """The families in which Gou's section 6 files a method, or whose folder it lies in; `OTHER` where there is none."""
    return [name for name, (_, places) in FAMILIES.items()
            if set(places) & set(card.survey_tables) or name.lower().replace("-", "_") == card.family] or [OTHER]


def usual(found: Sequence[Measured]) -> str | None:
    """The conditions under which most methods were measured; None where none was."""
    counts = Counter(comparison for comparison, _ in {(one.conditions, one.method) for one in found})
    return max(counts, key=lambda name: (counts[name], name)) if counts else None


def families(found: Sequence[Measured]) -> Grid:
    """The methods by Gou's nine families of algorithms, with what was measured where most were."""
    common = usual(found)
    by_method: dict[str, Measured] = {}
    for one in found:
        if one.conditions == common and (one.method not in by_method or one.variant == one.method):
            by_method[one.method] = one  # as its YAML has it, where that was measured
    elsewhere = Counter(method for method, _ in {(one.method, one.conditions) for one in found})
    parts, empty, every = [], [], cards()
    for name, (line, _) in [*FAMILIES.items(), (OTHER, ("", ()))]:
        members = [card for card in every if name in families_of(card)]
        rows = [family_row(name, card, by_method.get(card.key), elsewhere[card.key]) for card in members]
        heading = f"{name}{': ' + line if line else ''} ({counted(len(rows), 'method')})"
        if rows:
            parts.append(Part(heading, rows, comparable=False))
        else:
            empty.append(name)
    columns = [
        Column("method", lambda row: with_mark(row["method"], row["weak_teacher"])),
        Column("knowledge", lambda row: row["knowledge"]),
        Column("scheme", lambda row: row["scheme"]),
        Column("survey rows", lambda row: text(row["survey_rows"])),
        Column("n", lambda row: text(row["seeds"]), right=True, optional=True),
        Column("measured", lambda row: spread(row["measured"], 2, 100), right=True, optional=True),
        Column("gain [95 % interval]", lambda row: with_interval(row["gain"], 2, 100), right=True, optional=True),
        Column("conditions", lambda row: number(row["conditions"], 0), right=True, optional=True),
    ]
    narrow = [columns[0], Column("knowledge; scheme", lambda row: f"{row['knowledge']}; {row['scheme']}"), *columns[3:5],
              Column("gain", lambda row: signed(row["gain"].mean if row["gain"] else None, 2, 100), right=True, optional=True)]
    notes = [
        "The nine are sections 6.1 to 6.9 of Gou et al. and those of Kumar in the same order; a method may be of several.",
        *([f"Figures are in % and of the conditions that most methods share, {common}; 'conditions' counts all under which "
           "a method was measured."] if common else ["Nothing was measured yet: kdrun -m +experiment=survey/gou_table_3_mini "
                                                     "seed=1,2,3 would."]),
        *([f"No method yet: {', '.join(empty)}."] if empty else []),
        f"Source: {published.source('Gou')}.",
    ]
    return Grid("families", "Methods by the nine families of algorithms of Gou et al. (2021) and Kumar", columns, parts, notes,
                narrow)


def family_row(family: str, card: MethodCard, one: Measured | None, conditions: int) -> dict[str, Any]:
    """A method in a family, with its measurement under the usual conditions or none."""
    gain: Over | None = one.gap if one else None
    return {"family": family, "method": card.key, "knowledge": "+".join(card.knowledge) or "none", "scheme": card.schemes[0],
            "survey_rows": ", ".join(card.survey_tables) or None, "seeds": one.accuracy.count if one else None,
            "measured": one.accuracy if one else None, "gain": gain, **limits(gain, "gain"),
            "weak_teacher": one.weak_teacher if one else False, "conditions": conditions or None}


def taxonomy(found: Sequence[Measured]) -> Grid:
    """The methods by the other orders of the surveys: Alkhulaifi's tree, Gou's Figure 10, Zhu's forms, knowledge by scheme."""
    every, known = cards(), {one.method for one in found}
    parts = [
        class_part("Alkhulaifi, Figure 3: what is transferred, and when the teacher learns", tree(), known),
        class_part("Gou, Figure 10: how the student relates to its teacher, by the runs", relations(found), known),
        class_part("Zhu, section II-D: four forms of knowledge", forms(every), known),
        class_part("Gou, sections 3 and 4: knowledge by scheme", crossed(every), known),
    ]
    columns = [
        Column("class", lambda row: row["class"]),
        Column("what it is", lambda row: text(row["line"]), optional=True),
        Column("built", lambda row: number(row["built"], 0), right=True),
        Column("measured", lambda row: number(row["measured"], 0), right=True),
        Column("methods", lambda row: text(row["methods"])),
    ]
    notes = [
        "A method stands in each class that its card names; '*' marks those that were measured.",
        "Printed rows without a method of their own: " + lacking() + ".",
        "The surveys name no method of relations that learns online by itself; an empty class is a gap of the literature or "
        "of this project, and is shown as one.",
        f"Sources: {published.source('Alkhulaifi')}; {published.source('Gou')}; {published.source('Zhu')}.",
    ]
    return Grid("taxonomy", "Methods by the orders of the surveys", columns, parts, notes, [columns[0], *columns[2:]])


def class_part(heading: str, classes: Iterable[tuple[str, str, Iterable[str]]], known: set[str]) -> Part:
    """Classes of an order: a name, a line and the methods each."""
    rows = []
    for name, line, keys in classes:
        members = sorted(set(keys))
        rows.append({"order": heading.partition(":")[0], "class": name, "line": line or None, "built": len(members),
                     "measured": len(known & set(members)),
                     "methods": ", ".join(f"{key}*" if key in known else key for key in members) or None})
    return Part(heading, rows, comparable=False)


def tree() -> list[tuple[str, str, list[str]]]:
    """The leaves of Alkhulaifi's tree: its Table 1 is of soft labels, its Table 2 of other parts of the network."""
    found = []
    for table, words in (("Alkhulaifi 1", "soft labels"), ("Alkhulaifi 2", "other parts, with soft labels or without")):
        for scheme in ("offline", "online"):
            rows = [row for row in published.rows(table) if row.cells["scheme"] == scheme]
            keys = [key for row in rows for key in row.methods]
            found.append((f"{words}, {scheme}", counted(len(rows), "printed row"), keys))
    return found


def relations(found: Sequence[Measured]) -> list[tuple[str, str, list[str]]]:
    """Gou's Figure 10: which methods were measured with which kind of student."""
    built = {card.key for card in cards()}
    kinds = [(student_kind(one.first), one.method) for one in found if one.method in built]
    return [(name, line, [method for kind, method in kinds if kind == name]) for name, line in STUDENTS.items()]


def student_kind(row: dict[str, Any]) -> str:
    """How a run's student relates to its teacher, by their names, sizes and bits.

    Args:
        row: of the student, with its teacher beside it.

    Returns:
        A key of `STUDENTS`.
    """
    bits = row["bits"] / row["parameters"] if row.get("bits") and row.get("parameters") else 32
    teacher_size = row.get("teacher_parameters")
    if bits < 31:  # a few statistics are stored in full
        return "quantized"
    if teacher_size and row["parameters"] > teacher_size:
        return "larger"
    taught_by = row.get("teacher") or row.get("peers")
    if not taught_by or taught_by == row["student"]:
        return "the same"
    return "efficient" if str(row["student"]).rpartition(".")[2].startswith(CHEAP) else "simplified"


def forms(every: Sequence[MethodCard]) -> list[tuple[str, str, list[str]]]:
    """Zhu's four forms of knowledge: the surveys' three, and the structure of the network or of the data as a second label."""
    names = {"response": "output feature", "feature": "intermediate feature", "relation": "relationship"}
    return [*((names[kind], f"all methods of {kind} knowledge", [card.key for card in every if kind in card.knowledge])
              for kind in KINDS),
            ("structural", "a second label: graphs, attention, hierarchies, the structure of the network",
             [card.key for card in every if card.structural])]


def crossed(every: Sequence[MethodCard]) -> list[tuple[str, str, list[str]]]:
    """Each kind of knowledge under each scheme, by a method's own one."""
    return [(f"{kind}, {scheme}", "", [card.key for card in every if kind in card.knowledge and card.schemes[0] == scheme])
            for kind in KINDS for scheme in SCHEMES]


def lacking() -> str:
    """How many printed rows of each table are about no method here."""
    counts = {table: sum(not row.methods for row in published.rows(table)) for table in published.FILES}
    return ", ".join(f"{count} of {table}" for table, count in counts.items() if count) or "none"
