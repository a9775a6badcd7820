"""What methods claim of the surveys' tables, against the tables themselves."""

import csv
import re
from importlib import import_module
from importlib.resources import files

import pytest
from rich.console import Console

from kdrun.analysis.published import EXCEPTIONS, cites
from kdrun.cli.listing import Methods
from kdrun.config import registry

CARDS = {key: registry.method_card(key) for key in registry.options("method")}
SPELLING = re.compile(r"Gou [1-6]|Alkhulaifi ([12]|section \d)|Gou section \d(\.\d)?|Zhu section (I|II|III|IV|V)(-[A-Z])?")


def printed():
    """Table, citation and schemes of every row of the packaged tables."""
    for path in files("kdrun.analysis").iterdir():
        if not (known := re.match(r"(gou_table_(\d)|alkhulaifi_tables)_", path.name)):
            continue
        for row in csv.DictReader(path.read_text().splitlines()):
            text = row.get("method") or row["reference"]
            authors, year = re.search(r"(?:^|\()([^()]+?),? \(?(\d{4}[a-z]?)\)$", text).groups()
            table = f"Gou {known[2]}" if known[2] else f"Alkhulaifi {row['table']}"
            schemes = {scheme for scheme in ("offline", "online", "self") if row.get(scheme) == "yes"}
            schemes |= {row[column].lower() for column in ("scheme", "distillation") if row.get(column)}
            yield table, f"{authors} {year}", schemes


ROWS = list(printed())


def test_every_table_is_read():
    assert {table for table, _, _ in ROWS} == {*(f"Gou {number}" for number in range(1, 7)), "Alkhulaifi 1", "Alkhulaifi 2"}
    assert len(ROWS) == 112
    assert ("Gou 4", "Passalis and Tefas 2018", {"offline"}) in ROWS


def test_exceptions_are_of_methods_there_are():
    assert set(EXCEPTIONS) <= set(CARDS)


def test_methods_claim_the_tables_that_hold_them():
    claimed = {key: {row for row in card.survey_tables if "section" not in row} for key, card in CARDS.items()}
    assert claimed == {key: {table for table, citation, _ in ROWS if cites(key, table, citation)} for key in CARDS}


def test_rows_are_spelt_alike_and_said_once():
    for key, card in CARDS.items():
        assert [row for row in card.survey_tables if not SPELLING.fullmatch(row)] == [], key
        assert len(set(card.survey_tables)) == len(card.survey_tables), key
        assert card.survey_tables or not card.survey_scheme, key


def test_schemes_are_as_the_tables_print_them():
    for key, card in CARDS.items():
        said = set(re.findall(r"\b(?:offline|online|self)\b", card.survey_scheme))
        tables = set().union(*(schemes for table, citation, schemes in ROWS if cites(key, table, citation)))
        assert tables <= said, key


def test_cards_say_what_the_classes_say():
    for key, card in CARDS.items():
        module, _, title = registry.load("method", key)["_target_"].rpartition(".")
        kind = getattr(import_module(module), title)
        assert (card.survey_scheme, card.survey_tables) == (kind.survey_scheme, kind.survey_tables), key
        assert {"survey_scheme", "survey_tables"} <= set(vars(kind)), key  # said, not inherited


@pytest.mark.parametrize("width", [100, 160])
def test_list_shows_all_of_it(width):
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(Methods())
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in captured.get()
    told = " ".join(captured.get().split())
    for key, card in CARDS.items():
        (row,) = (line for line in lines if line.startswith(f"{key} "))
        kinds = card.knowledge or ("none",)
        assert row.split()[1].strip(",") == kinds[0]
        assert all(f"{', ' if number else ''}{kind}" in row for number, kind in enumerate(kinds)) or width == 100
        assert f" {card.teachers} " in row
        for row_of_survey in card.survey_tables:
            assert row_of_survey in told
        assert " ".join(card.summary.split()) in told
        assert " ".join(card.source.split()) in told
