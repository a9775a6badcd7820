"""A small sample of tests/stress: kills, damaged files, wrong command lines. `python -m tests.stress` runs thousands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdrun.config import registry
from tests.toy import SHAPES

# That every method resumes to the same bytes is seen in tests/methods/test_contract.py; here the process dies, wherever it is
GROUPS = [list(SHAPES.values())[::2], list(SHAPES.values())[1::2]]
KILLS, DAMAGED, COMMANDS = 2, 5, 10


def stress(*words: str) -> list[dict]:
    """What the command prints, line by line, without the counts; it is a process of its own, which forks each case."""
    told = subprocess.run([sys.executable, "-m", "tests.stress", *words], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"})
    *lines, counts = told.stdout.splitlines() or [told.stderr]
    print(counts)
    assert told.returncode in (0, 1), told.stderr
    assert counts.startswith(words[0])
    return [json.loads(line) for line in lines]


def test_those_that_are_killed_are_of_every_kind():
    cards, killed = ([registry.method_card(key) for key in keys] for keys in (registry.options("method"), SHAPES.values()))
    assert {card.teachers for card in killed} == {card.teachers for card in cards}
    kinds, killed_kinds = ({kind for card in some for kind in card.knowledge} for some in (cards, killed))
    assert killed_kinds == kinds
    assert {card.schemes[0] for card in killed} == {card.schemes[0] for card in cards}  # they run under their first


@pytest.mark.slow
@pytest.mark.parametrize("methods", GROUPS, ids=", ".join)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(methods):
    lines = stress("kills", "--count", str(KILLS * len(methods)), "--methods", *methods)
    assert [line["method"] for line in lines] == methods
    assert all(line["files"] >= 5 for line in lines)
    assert [line for line in lines if line["wrong"]] == []
    assert sum(line["kills"] for line in lines) >= 0.7 * KILLS * len(methods)  # some are done before their moment comes


@pytest.mark.slow
def test_damaged_files_are_told_of_and_mended():
    assert stress("damage", "--count", str(DAMAGED)) == []


@pytest.mark.slow
def test_wrong_command_lines_are_refused():
    assert stress("commands", "--count", str(COMMANDS)) == []
