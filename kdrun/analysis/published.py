"""The surveys' tables as printed, what has to be known to read them, and which methods here their rows are about."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from kdrun.config import registry

__all__ = ["EXCEPTIONS", "Row", "citation", "cites", "in_print", "methods_of", "notes", "rows", "source", "source_of",
           "worked_example"]

FOLDER = Path(__file__).parent
FILES: Final[dict[str, str]] = {
    "Alkhulaifi 1": "alkhulaifi_tables_1_2.csv", "Alkhulaifi 2": "alkhulaifi_tables_1_2.csv",
    "Gou 1": "gou_table_1_feature.csv", "Gou 2": "gou_table_2_relation.csv", "Gou 3": "gou_table_3_multi_teacher.csv",
    "Gou 4": "gou_table_4_cross_modal.csv", "Gou 5": "gou_table_5_cifar10.csv", "Gou 6": "gou_table_6_cifar100.csv",
}

# How a survey cites a method, where the paper's authors and year do not tell: another of their papers of that year is
# cited too, or a later version, or other authors. "Heo et al. 2019" is the citation without a letter.
EXCEPTIONS: Final[dict[str, dict[str, set[str]]]] = {
    "ab": {"Gou": {"Heo et al. 2019c"}, "Alkhulaifi": {"Heo et al. 2019"}},
    "amalgam": {"Gou": {"Shen et al. 2019a"}},
    "amalgam_adaptive": {"Gou": {"Shen et al. 2019b"}},
    "bss": {"Gou": {"Heo et al. 2019b"}},
    "fn": {"Gou": {"Xu et al. 2020b"}},
    "fskd": {"Gou": {"Li et al. 2020c"}},  # which no table has; Gou's Li 2020d is local correlations
    "gan_compress": {"Gou": {"Li et al. 2020b"}},  # which no table has; Gou's Li 2020d is local correlations
    "gan_tsc": {},  # the tables' Liu 2018 is a decision tree
    "gd": {"Gou": {"Lee et al. 2019b"}},  # which no table has; Gou's Lee 2019c is a stochastic teacher
    "hkd_flow": {"Gou": {"Passalis et al. 2020b"}},
    "irg": {"Gou": {"Liu et al. 2019g"}, "Alkhulaifi": {"Liu et al. 2019"}},  # Gou's Liu 2019c is KR
    "kdfm_gan": {},  # the tables' Chen 2018 is DarkRank
    "kimura_gp": {"Alkhulaifi": {"Kimura et al. 2019"}},
    "knowledge_flow": {},  # the tables' Liu 2019 are IRG and KR
    "kr_repr": {"Gou": {"Liu et al. 2019c"}},
    "ktn": {},  # the tables' Peng 2019 is correlation congruence; this one, Gou's 2019b, is in none
    "lp": {"Gou": {"Chen et al. 2020b"}},  # Alkhulaifi's Chen 2020 is OKDDip
    "lsp_gcn": {},  # Gou's Yang 2020a, which is in no table
    "meal": {},  # the tables' Shen 2019 are of amalgamation
    "mmd_graph": {},  # one of the distances of graph_zp
    "mt_logeuclid": {"Gou": {"Wu et al. 2019a"}},  # Alkhulaifi's Wu 2019 is of weighted inputs
    "mt_weighted_inputs": {"Alkhulaifi": {"Wu et al. 2019"}},
    "nas_dna": {"Gou": {"Li et al. 2020a"}},  # which no table has
    "ofd": {"Gou": {"Heo et al. 2019a"}},
    "okddip": {"Alkhulaifi": {"Chen et al. 2020"}},  # Gou's Chen 2020b is locality preserving
    "one": {"Gou": {"Zhu and Gong 2018"}, "Alkhulaifi": {"Lan et al. 2018"}},
    "pkt": {"Gou": {"Passalis et al. 2020a", "Passalis and Tefas 2018"}},
    "qkd": {},  # the tables' Kim 2019 is feature fusion
    "snapshot_kd": {"Gou": {"Yang et al. 2019b"}},  # Gou's Yang 2019a is the tolerant teacher
    "sskd_ss": {"Gou": {"Xu et al. 2020a"}},
    "tfkd_reg": {},  # the tables print the self-training figures of that paper only
    "tolerant_gen": {"Gou": {"Yang et al. 2019a"}},
}


@dataclass(frozen=True)
class Row:
    """A printed row.

    Attributes:
        table: "Gou 5", "Alkhulaifi 1", ...
        name: what stands in its first column.
        cells: its columns; None for an empty field, numbers as such.
        methods: the keys of the methods here that it is about; empty where there is none.
        composition: methods together that it is about, as results name them ("combine+rkd+kd"); None where it is of one.
    """

    table: str
    name: str
    cells: Mapping[str, Any]
    methods: tuple[str, ...]
    composition: str | None = None

    @property
    def systems(self) -> tuple[str, ...]:
        """What here it is about, as results name it."""
        return self.methods if self.composition is None else (self.composition, *self.methods)


def rows(table: str) -> list[Row]:
    """A table's rows, in the printed order."""
    found = []
    for cells in read(FILES[table]):
        if str(cells.pop("table", table.split()[1])) == table.split()[1]:
            name = cells.get("method") or cells["reference"]
            found.append(Row(table, name, cells, methods_of(table, name), composition_of(table, name)))
    return found


def worked_example() -> list[dict[str, Any]]:
    """The distillation score's example: four students of one teacher."""
    return read("alkhulaifi_worked_example.csv")


def read(file: str) -> list[dict[str, Any]]:
    """The rows of a packaged CSV."""
    return [{key: number(text) for key, text in row.items()}
            for row in csv.DictReader((FOLDER / file).read_text().splitlines())]


def number(text: str) -> Any:
    """A field as a number if it is one; None if it is empty."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text or None


def citation(name: str) -> str:
    """Authors and year as a row's name cites them: "FSP (Yim et al., 2017)" is "Yim et al. 2017"."""
    match = re.search(r"(?:^|\()([^()]+?),? \(?(\d{4}[a-z]?)\)$", name)
    assert match is not None, name
    return f"{match[1]} {match[2]}"


def cites(key: str, table: str, cited: str) -> bool:
    """Whether a row of this table that cites so is about the method: by the authors and year of its `source`."""
    if key in EXCEPTIONS:
        return cited in EXCEPTIONS[key].get(table.split()[0], ())
    return (cited_as := source_of(key)) is not None and cited.rstrip("abcdefgh") == " ".join(cited_as)


def source_of(key: str) -> tuple[str, str] | None:
    """A method's paper as authors and year: ("Romero et al.", "2015"); None for a method of no paper."""
    source = registry.method_card(key).source
    authors = source.partition(":")[0].split(", ")
    years = re.findall(r"\b(?:19|20)\d\d\b", source)
    if not years:
        return None
    return f"{authors[0]} and {authors[1]}" if len(authors) == 2 else f"{authors[0]} et al.", years[-1]


def in_print(variant: str, cite: bool = True) -> str:
    """A variant of a method by names and citations: "at (beta=500)" is "AT (Zagoruyko and Komodakis, 2017), beta 500".

    Args:
        variant: the keys of the method and of what it is made of, with what was set otherwise than their YAMLs do.
        cite: whether to name the method's paper.
    """
    keys, _, changed = variant.removesuffix(")").partition(" (")
    known = registry.options("method")
    names = " + ".join(registry.method_card(key).title if key in known else key for key in keys.split("+"))
    cited_as = source_of(first) if cite and (first := keys.partition("+")[0]) in known else None
    words = re.sub(r"['\"{}]", "", changed)
    while words != (words := re.sub(r"\[([^][]*)\]", lambda inside: inside[1].replace(", ", " and "), words)):
        pass  # lists of lists, from within
    return names + (f" ({', '.join(cited_as)})" if cited_as else "") + \
        (f", {words.replace('=', ' ').replace('_', ' ')}" if changed else "")


def methods_of(table: str, name: str) -> tuple[str, ...]:
    """The keys of the methods that claim this table and that its row of this name is about."""
    return tuple(key for key in claiming(table) if cites(key, table, citation(name)))


def composition_of(table: str, name: str) -> str | None:
    """What a row is about that is of methods together; None otherwise."""
    return next((note["composition"] for note in remarks()["notes"]
                 if "composition" in note and (note["table"], note["row"]) == (table, name)), None)


@cache
def claiming(table: str) -> tuple[str, ...]:
    """The keys of the methods that say they are of this table."""
    return tuple(key for key in registry.options("method") if table in registry.method_card(key).survey_tables)


@cache
def remarks() -> dict[str, Any]:
    """Sources and notes."""
    return yaml.safe_load((FOLDER / "notes.yaml").read_text())


def source(survey: str) -> str:
    """A survey in full: of "Gou" or "Alkhulaifi"."""
    return remarks()["sources"][survey]


def notes(table: str) -> list[tuple[str | None, str]]:
    """What has to be known of a table: (the row's name or None, the note) each."""
    return [(note.get("row"), note["text"]) for note in remarks()["notes"] if note["table"] == table]
