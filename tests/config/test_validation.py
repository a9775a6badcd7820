"""What a recorded run may say and a command line cannot: it is found before anything is trained."""

from dataclasses import replace

import pytest

from kdrun.config.schema import Settings
from kdrun.config.validation import problems
from tests.conftest import tiny_source
from tests.toy import toy_settings


@pytest.mark.parametrize(("choices", "told"), [
    ({"method": "nonsense"}, "unknown method 'nonsense'; there is ab, "),
    ({"method": "fitnet"}, "unknown method 'fitnet'; did you mean 'fitnets'?"),
    ({"method/base": "nonsense"}, "unknown method/base 'nonsense'"),
    ({"method": ["kd"]}, "method: got ['kd'], wanted a choice of its group: method=NAME"),
    ({"method": None}, "method: got null, wanted a choice"),
    ({"student": "\ud800"}, r"choice of student: got '\ud800', wanted a text without the character U+D800"),
])
def test_choices_that_there_are_not(choices, told):
    settings = toy_settings("kd")
    (line,) = problems(Settings(settings.values, settings.choices | choices))
    assert line.startswith(told)


@pytest.mark.parametrize(("group", "key", "text", "told"), [
    ("recipe", "name", "\ud800x", r"recipe.name: got '\ud800x', wanted a text without the character U+D800"),
    ("recipe", "name", "a\x1b[31m", "recipe.name: got 'a\\x1b[31m', wanted a text without the character U+001B"),
    ("recipe", "name", "a\u202eb", "recipe.name: got 'a\\u202eb', wanted a text without the character U+202E"),
    ("dataset", "extra", ["x", "\udcff"], r"dataset.extra[1]: got '\udcff', wanted a text without the character U+DCFF"),
])
def test_texts_that_no_table_can_show(group, key, text, told):
    settings = toy_settings("kd")
    values = {**settings.values, group: {**settings.values[group], key: text}}
    assert problems(Settings(values, settings.choices)) == [told]


def test_a_path_may_have_any_space():
    settings = toy_settings("kd")
    assert problems(Settings({**settings.values, "outputs": "a\u00a0b\u3000c"}, settings.choices)) == []


@pytest.mark.parametrize("name", ["a\udcff", " ", "two\nlines"])
def test_classes_that_no_table_can_show(name):
    (line,) = replace(tiny_source(), classes=("a", "b", "c", name)).picture_problems()
    assert line == f"a class is called {name!r}, which no table can show; give it another name"
