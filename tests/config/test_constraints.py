import math
from typing import Annotated, Any, Literal

import pytest

from kdrun.config.constraints import (
    AtLeastOne,
    Bounds,
    Count,
    Fraction,
    Known,
    Layers,
    NetworkName,
    NonNegative,
    Positive,
    Proportion,
    annotations,
    closest,
    misfit,
)
from kdrun.config.recipe import Recipe
from kdrun.models.resnet import ResNet


@pytest.mark.parametrize(("kind", "inside", "outside"), [
    (Positive, [1e-9, 1, 3.5], [0, 0.0, -1, math.inf, math.nan, True, "1", None, [1.0]]),
    (NonNegative, [0, 0.0, 2], [-1e-9, math.nan, False]),
    (Fraction, [0, 0.5, 1], [-0.01, 1.01]),
    (Proportion, [0, 0.999], [1, 1.0, -0.1]),
    (AtLeastOne, [1, 100], [0, -1, 1.0, 1.5, True, "1"]),
    (Count, [0, 7], [-1, 0.0, None]),
    (Annotated[int, Bounds(least=2)], [2], [1]),
    (float, [0, -1.5, 3e38, 2e-38], [1e308, -1e308, 1e-320, 10**400, math.inf, -math.inf, math.nan, True, "x"]),
    (int, [0, -5, 2**63 - 1], [2**63, -2**63, 1.0, True, None]),
    (bool, [True, False], [0, 1, "true", None]),
    (str, ["", "a"], [1, None, ["a"]]),
    (list, [[], [1, "a"]], ["a", 1, {}]),
    (dict, [{}, {"a": 1}], [[], None]),
    (type(None), [None], [0, "", False]),
    (Literal["sgd", "adamw"], ["sgd", "adamw"], ["SGD", "", None, 1, ["sgd"]]),
    (list[AtLeastOne], [[], [1, 2], (3,)], [[0], [1, 0], [1.5], 1, "12", None]),
    (list[float], [[0.5, 1]], [["a"], [math.nan]]),
    (Positive | None, [None, 1.5], [0, -1, "x", False]),
    (AtLeastOne | None, [None, 1], [0, 1.5]),
    (list[float] | None, [None, [0.5]], [0.5, [None]]),
    (Any, [None, 1, "a", [object()]], []),
])
def test_what_fits_and_what_does_not(kind, inside, outside):
    assert [value for value in inside if misfit(value, kind) is not None] == []
    assert [value for value in outside if misfit(value, kind) is None] == []


@pytest.mark.parametrize(("value", "kind", "told"), [
    (-1, Positive, "a number above 0"),
    ("x", Positive, "a number"),
    (2, Fraction, "a number at least 0 and at most 1"),
    (1, Proportion, "a number at least 0 and below 1"),
    (0, AtLeastOne, "a whole number at least 1"),
    (1.5, AtLeastOne, "a whole number"),
    ("adam", Literal["sgd", "adamw"], "one of sgd, adamw"),
    (0, Positive | None, "a number above 0 or null"),
    ([1, 0], list[AtLeastOne], "a list, each a whole number at least 1"),
    ("a", list[AtLeastOne], "a list"),
    (1, bool, "true or false"),
    (1, str, "a text"),
    ([], dict, "a group"),
    ("resnet32x5", NetworkName, "the name of a model; did you mean 'resnet32x4'?"),
    ("qqqqqq", NetworkName, "the name of a model"),
    (3, NetworkName, "a text"),
])
def test_a_misfit_says_what_would_fit(value, kind, told):
    assert misfit(value, kind) == told


def test_every_network_of_the_catalogue_is_a_network_name():
    assert misfit("resnet8", NetworkName) is None
    assert "wrn_40_2" in Known("model")
    assert "kd" not in Known("model")
    assert "kd" in Known("method")


def test_an_interval_knows_its_open_and_closed_ends():
    assert 0 not in Bounds(above=0)
    assert 0 in Bounds(least=0)
    assert 1 in Bounds(most=1)
    assert 1 not in Bounds(below=1)
    assert math.nan not in Bounds()
    assert str(Bounds(above=0, most=2.5)) == "above 0 and at most 2.5"


def test_the_closest_word_is_offered_only_if_it_is_close():
    assert closest("temperatur", ["temperature", "weight"]) == "; did you mean 'temperature'?"
    assert closest("zzz", ["temperature", "weight"]) == ""
    assert closest("x", []) == ""


def test_annotations_keep_the_bounds_and_leave_out_what_is_returned():
    def reader(*, share: Fraction, root: str) -> int:
        return 0

    assert annotations(reader) == {"share": Fraction, "root": str}
    assert annotations(ResNet)["depth"] == Layers
    assert annotations(ResNet)["widths"] == list[AtLeastOne]
    assert annotations(Recipe)["clip"] == Positive | None
    assert "return" not in annotations(Recipe)


def test_of_words_that_are_equally_close_the_one_that_starts_the_same_and_comes_first():
    assert closest("resnet15", ["resnet14", "resnet18", "resnet56", "resnet110"]) == "; did you mean 'resnet14'?"
