"""Widths under a budget: which words come of factors, and N2N's reward at and over the budget."""

import pytest

from kdrun.config import registry
from kdrun.sweeps.search.objectives import n2n_reward
from kdrun.sweeps.search.space import parsed
from kdrun.sweeps.search.widths import WidthSearch
from tests.sweeps.search.test_study import FakeDesk
from tests.toy import settings_of

MEASURES = {"validation_accuracy": 0.9, "teacher_validation_accuracy": 0.95, "parameters": 40_000,
            "teacher_parameters": 100_000}


def search(**changes) -> WidthSearch:
    settings = {key: value for key, value in registry.load("sweep", "width_search").items() if key != "_target_"}
    return WidthSearch(**(settings | changes))


def test_factors_become_widths():
    space = search().space(settings_of("student=resnet8"), parsed(["method=kd", "student=resnet8", "sweep=width_search"]))
    assert list(space.dimensions) == ["student.widths[0]", "student.widths[1]", "student.widths[2]"]
    chosen = {"student.widths[0]": "0.25", "student.widths[1]": "1.0", "student.widths[2]": "0.625"}
    assert space.words(chosen) == ["method=kd", "student=resnet8", "student.widths=[4,32,40]"]


def test_a_network_with_one_width():
    space = search().space(settings_of("student=wrn_16_2"), parsed(["student=wrn_16_2"]))
    assert space.words({"student.width[0]": "0.5"}) == ["student=wrn_16_2", "student.width=1"]


def test_blocks_may_be_left_out_too():
    words = ["student=searchable", "student.widths=[8,8]", "student.strides=[1,2]", "student.blocks=[[full,depthwise],[shift]]"]
    space = search(remove_blocks=True).space(settings_of(*words), parsed(words))
    assert space.dimensions["student.blocks[0]"].values == ("1", "2")
    chosen = {"student.widths[0]": "0.5", "student.widths[1]": "1.0", "student.blocks[0]": "1", "student.blocks[1]": "1"}
    assert space.words(chosen) == ["student=searchable", "student.strides=[1,2]", "student.widths=[4,8]",
                                   "student.blocks=[['full'],['shift']]"]
    space = search(remove_blocks=True).space(settings_of("student=resnet18"), parsed(["student=resnet18"]))
    chosen = {key: dimension.values[0] for key, dimension in space.dimensions.items()}
    assert space.words(chosen)[-1] == "student.blocks=[1,1,1,1]"
    assert search(remove_blocks=True).problems(settings_of("student=resnet8"))[0].startswith("sweep.remove_blocks: the student")


def test_given_widths_are_those_that_shrink():
    words = ["student=cnn", "student.widths=[10,20]", "method.temperature=interval(1,4)"]
    space = search().space(settings_of("student=cnn", "student.widths=[10,20]"), parsed(words))
    assert space.words({"student.widths[0]": "0.01", "student.widths[1]": "0.5", "method.temperature": 2.0}) == [
        "student=cnn", "method.temperature=2.0", "student.widths=[1,10]"]


def test_the_reward_within_and_over_the_budget():
    assert search(budget=40_000).worth(MEASURES, 99) == [pytest.approx(n2n_reward(0.9, 0.95, 40_000, 100_000))]
    reward = 0.9 / 0.95 * 0.6 * 1.4
    assert search(budget=39_999).worth(MEASURES, 0) == [-1]
    over = search(budget=39_999, rollouts=5, sampler="reinforce")
    assert over.worth(MEASURES, 4) == [pytest.approx(reward)]  # the first iteration forgives everything
    tolerance = (2 / 3) ** 4
    assert over.worth(MEASURES, 25) == [pytest.approx(tolerance - 1 + tolerance * reward)]
    assert over.worth(MEASURES, 75) == [-1]
    assert search().worth(MEASURES | {"teacher_validation_accuracy": None}, 0) == [None]


class NoDesk:
    """Composes jobs, and shall not run any."""

    @staticmethod
    def settings_of(words):
        return settings_of(*words)


def test_what_is_over_the_budget_is_not_trained_once_nothing_is_forgiven():
    over = search(budget=1000, rollouts=1, sampler="reinforce")
    over.space(settings_of("student=cnn"), parsed(["student=cnn"]))
    words = ["student=cnn", "student.widths=[16,32,64]"]
    assert over.known(NoDesk(), words, 14) is None
    value, notes = over.known(NoDesk(), words, 15)
    assert value == [-1]
    # by hand: 1 -> 16 -> 32 -> 64 channels of 3x3, batch normalisation, a linear layer
    assert notes["parameters"] == 9 * (16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 64 * 10 + 10
    assert over.known(NoDesk(), ["student=cnn", "student.widths=[2,2,2]"], 15) is None
    over.sampler = "tpe"
    assert over.known(NoDesk(), words, 0)[0] == [-1]  # never


@pytest.mark.parametrize(("words", "told"), [
    (["student=tree", "method=cnn2tree"], "sweep=width_search: the student tree has no widths"),
    (["dataset.validation=0"], "dataset.validation: got 0"),
    (["student=wrn_16_1"], "sweep=width_search: the student wrn_16_1 has no widths"),
    (["teacher.checkpoint=t.pt"], "sweep=width_search: the reward needs the teacher's validation accuracy"),
])
def test_what_cannot_be(words, told):
    assert search().problems(settings_of(*words))[0].startswith(told)


def test_widths_that_come_out_the_same_are_trained_once(tmp_path):
    words = ["method=kd", "student=cnn", "student.widths=[1,4]", "method.temperature=4"]

    class SweepContext(FakeDesk):
        settings = settings_of(*words, f"outputs={tmp_path}")
        settings_of = staticmethod(NoDesk.settings_of)

    context = SweepContext(tmp_path)
    study = search(trials=2, factors=[0.5, 1.0], sampler="random", seed=1).run(context, words)
    assert sorted(job[-1] for job in context.jobs) == ["student.widths=[1,2]", "student.widths=[1,4]"]  # 0.5 of 1 is 1
    assert len(study.trials) > 2
