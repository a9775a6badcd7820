"""Hydra's syntax of sweeps as a search space."""

import pytest

from kdrun.config.schema import ConfigError
from kdrun.sweeps.search.space import Choice, Numbers, parsed
from kdrun.sweeps.search.space import read as read_overrides


def read(words):
    return read_overrides(parsed(words))


@pytest.mark.parametrize(("word", "wanted"), [
    ("a=1,2,2", Choice(("1", "2"))),
    ("a=choice(kd,at)", Choice(("kd", "at"))),
    ("a=choice([1,2],[3])", Choice(("[1,2]", "[3]"))),
    ("a=range(1,9,3)", Numbers(1, 7, 3, False)),
    ("a=range(9,1,-3)", Numbers(3, 9, 3, False)),
    ("a=range(0,1,0.25)", Numbers(0, 0.75, 0.25, False)),
    ("a=interval(1,10)", Numbers(1.0, 10.0, None, False)),
    ("a=int(interval(1,8))", Numbers(1, 8, None, False)),
    ("a=tag(log,interval(1e-3,1))", Numbers(0.001, 1.0, None, True)),
    ("a=tag(log,int(interval(1,64)))", Numbers(1, 64, None, True)),
])
def test_what_a_word_offers(word, wanted):
    assert read([word]).dimensions == {"a": wanted}


def test_whole_numbers_stay_whole():
    assert isinstance(read(["a=int(interval(1,8))"]).dimensions["a"].low, int)
    assert isinstance(read(["a=range(1,8)"]).dimensions["a"].high, int)


def test_a_command_line_taken_apart():
    space = read(["method=kd", "sweep=optuna", "sweep.trials=3", "launch=parallel", "+x=a,b", "seed=1"])
    assert space.fixed == ("method=kd", "seed=1")
    assert space.aside == ("sweep=optuna", "sweep.trials=3", "launch=parallel")
    assert space.words({"+x": "b"}) == ["method=kd", "seed=1", "+x=b"]


def test_what_is_to_be_chosen_is_not_fixed_too():
    assert read(["a=1", "b=2", "a=1,3"]).words({"a": "3"}) == ["b=2", "a=3"]


def test_numbers_come_back_as_they_were():
    assert read(["a=interval(0,1)"]).words({"a": 0.1 + 0.2}) == ["a=0.30000000000000004"]
    assert read(["a=range(1,5)"]).words({"a": 3}) == ["a=3"]


def test_probes_show_every_choice_and_both_ends():
    space = read(["m=kd,at,rkd", "t=interval(1,10)"])
    assert space.probes() == [["m=kd", "t=1.0"], ["m=at", "t=1.0"], ["m=rkd", "t=1.0"], ["m=kd", "t=10.0"]]


@pytest.mark.parametrize(("word", "reason"), [
    ("a=shuffle(1,2)", "leave shuffle out"),
    ("a=shuffle(range(1,4))", "leave shuffle out"),
    ("a=tag(fine,interval(0,1))", "the tag 'fine' means nothing here; there is log"),
    ("a=tag(log,choice(1,2))", "log is for range and interval"),
    ("a=tag(log,interval(0,1))", "log is for numbers above 0, and it starts at 0.0"),
    ("a=tag(log,range(1,9,2))", "log and a step exclude each other"),
    ("a=interval(5,1)", "wanted the smaller one first"),
    ("a=range(3,3)", "there is no number in this range"),
    ("sweep.trials=1,2", "there is one search"),
])
def test_what_cannot_be_searched_over(word, reason):
    with pytest.raises(ConfigError, match=reason) as refused:
        read([word, "b=1,2"])
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(word)
