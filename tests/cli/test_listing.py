"""What `kdrun list` and `kdrun --help` tell."""

import pytest

from kdrun.cli.listing import help_text, introduction
from kdrun.config import registry


@pytest.mark.parametrize("group", ["dataset", "scheme", "recipe", "launch", "sweep", "experiment"])
def test_every_choice_says_what_it_is(group):
    assert [name for name, path in registry.options(group).items() if not introduction(path)] == []


def test_help_marks_the_defaults_and_leaks_nothing_of_hydra():
    told = help_text([])
    lines = {line.split()[0]: line.split() for line in told.splitlines() if line.startswith("  ") and line.split()}
    for group, choice in {"dataset": "digits*,", "method": "ab,", "scheme": "offline*,", "sweep": "grid*,"}.items():
        assert choice in lines[group]
    assert "kd*," in told.split()
    assert told.count("wrn_16_2*") == told.count("resnet8*") == 1  # a default of the teacher, and one of the student
    assert "override" not in told
    assert "\n  seed: 1\n" in told
