"""Gou's Tables 1 to 4, made from what the methods say of themselves and compared with what the survey prints."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kdrun.analysis import published
from kdrun.analysis.published_vs_measured import ABSENT, MARK, file_key
from kdrun.analysis.table import Column, Grid, Part, text
from kdrun.config import registry
from kdrun.config.registry import MethodCard

__all__ = ["printed_classes"]

TITLES: Final = {"Gou 1": "feature-based knowledge", "Gou 2": "relation-based knowledge", "Gou 3": "several teachers",
                 "Gou 4": "cross-modal distillation"}
KINDS: Final = {"ResK": "response", "FeaK": "feature", "RelK": "relation"}
SCHEMES: Final = ("offline", "online", "self")


def printed_classes(table: str) -> Grid:
    """One of Gou's Tables 1 to 4: what is printed, the method here, what it says of itself, and where they part."""
    marked = {row for row, _ in published.notes(table)}
    rows = []
    for row in published.rows(table):
        cards = [registry.method_card(key) for key in row.methods]
        rows.append({**row.cells, "methods": row.methods or None,
                     "knowledge_here": joined(cards, lambda card: "+".join(card.knowledge) or "none"),
                     "scheme_here": joined(cards, lambda card: card.survey_scheme or "none"),
                     "runs_under": joined(cards, lambda card: ", ".join(card.schemes)),
                     "family": joined(cards, lambda card: card.family),
                     "agrees": agreement(table, row.cells, cards), "noted": row.name in marked})
    printed = {
        "Gou 1": (("knowledge", "knowledge_type"), ("source", "knowledge_source"), ("loss", "distillation_loss")),
        "Gou 2": (("knowledge", "knowledge_type"), ("source", "knowledge_source"), ("loss", "distillation_loss")),
        "Gou 3": (("knowledge", "knowledge"), ("scheme", "schemes")),
        "Gou 4": (("teacher sees", "teacher_modality"), ("student sees", "student_modality"), ("knowledge", "knowledge"),
                  ("scheme", "distillation")),
    }[table]
    if table == "Gou 3":
        rows = [row | {"knowledge": ticked(row, KINDS.values()), "schemes": ticked(row, SCHEMES)} for row in rows]
    here = Column("kdrun", lambda row: ", ".join(row["methods"]) if row["methods"] else ABSENT)
    agrees = Column("agrees", lambda row: text(row["agrees"]))
    method = Column("method", lambda row: row["method"] + (MARK if row["noted"] else ""))
    says = Column("says", lambda row: text(row["knowledge_here"] and f"{row['knowledge_here']}; {row['scheme_here']}"))
    columns = [method, *(Column(title, cell(key)) for title, key in printed), here, says, agrees]
    narrow = [method, Column("; ".join(title for title, _ in printed),
                             lambda row: "; ".join(text(row[key]) for _, key in printed)), here,
              Column("says", lambda row: text(row["knowledge_here"])), agrees]
    paper = [method, *(Column(title, joined_by_plus(key) if key in ("knowledge", "schemes") else cell(key))
                       for title, key in printed),
             Column("method here", lambda row: text(row["methods"] and " or ".join(
                 published.in_print(key, cite=False) for key in row["methods"]))),
             Column("knowledge here", lambda row: text(row["knowledge_here"])),
             Column("scheme here", first_scheme, note=schemes_said),
             Column("agrees", agrees_shortly, note=lambda row: "" if row["agrees"] in (None, "yes") else row["agrees"])]
    absent = [row for row in rows if not row["methods"]]
    notes = [
        "Printed columns first; then the method here, the knowledge it says it transfers, the scheme under which it says the "
        "surveys file it, and whether both are as printed.",
        *([f"{len(absent)} of {len(rows)} rows have no method here yet."] if absent else []),
        *(f"{row + ': ' if row else ''}{words}" for row, words in published.notes(table)),
        f"Source: {published.source('Gou')}.",
    ]
    title = f"Gou et al. (2021), Table {table.split()[1]}: {TITLES[table]}"
    return Grid(file_key(table), title, columns, [Part("", rows)], notes, narrow, paper=paper)


def agrees_shortly(row: Mapping[str, Any]) -> str:
    """Whether knowledge and scheme are as printed, in a word or two."""
    if row["agrees"] in (None, "yes"):
        return text(row["agrees"])
    return "in part" if all("in part" in words for words in row["agrees"].split("; ")) else "no"


def first_scheme(row: Mapping[str, Any]) -> str:
    """The first of the schemes under which the surveys file a method."""
    return text(row["scheme_here"] and row["scheme_here"].partition(";")[0].partition(" (")[0])


def schemes_said(row: Mapping[str, Any]) -> str:
    """All of those schemes, with who files it so; empty where there is one."""
    return row["scheme_here"] if row["scheme_here"] and "(" in row["scheme_here"] else ""


def joined_by_plus(key: str) -> Callable[[Mapping[str, Any]], str]:
    """A printed cell that enumerates."""
    return lambda row: text(row[key] and row[key].replace(", ", " + "))


def cell(key: str) -> Callable[[Mapping[str, Any]], str]:
    """A printed cell."""
    return lambda row: text(row[key])


def ticked(cells: Mapping[str, Any], names: Any) -> str:
    """The columns that have a yes."""
    return ", ".join(name for name in names if cells.get(name) == "yes")


def joined(cards: list[MethodCard], said: Callable[[MethodCard], str]) -> str | None:
    """What the methods of a row say, each once; None without a method."""
    return " / ".join(dict.fromkeys(said(card) for card in cards)) if cards else None


def agreement(table: str, cells: Mapping[str, Any], cards: list[MethodCard]) -> str | None:
    """"yes", or where a method parts from the printed row; None without a method."""
    if not cards:
        return None
    apart = []
    for name, printed, own in (("knowledge", *knowledge(table, cells, cards)), ("scheme", *schemes(table, cells, cards))):
        if printed and not printed & own:
            apart.append(f"{name}: printed {', '.join(sorted(printed))}")
        elif printed - own:
            apart.append(f"{name}: in part, printed {', '.join(sorted(printed))}")
    return "; ".join(apart) or "yes"


def knowledge(table: str, cells: Mapping[str, Any], cards: list[MethodCard]) -> tuple[set[str], set[str]]:
    """The kinds of knowledge that are printed, and those the methods say."""
    own = {kind for card in cards for kind in card.knowledge}
    if table in ("Gou 1", "Gou 2"):
        return {"feature" if table == "Gou 1" else "relation"}, own
    if table == "Gou 3":
        return {kind for kind in KINDS.values() if cells[kind] == "yes"}, own
    return {KINDS[kind] for kind in cells["knowledge"].split(", ")}, own


def schemes(table: str, cells: Mapping[str, Any], cards: list[MethodCard]) -> tuple[set[str], set[str]]:
    """The schemes that are printed, and those under which the methods file themselves."""
    own = {scheme for card in cards for scheme in SCHEMES if scheme in card.survey_scheme}
    if table == "Gou 3":
        return {scheme for scheme in SCHEMES if cells.get(scheme) == "yes"}, own
    return ({cells["distillation"].lower()} if table == "Gou 4" else set()), own
