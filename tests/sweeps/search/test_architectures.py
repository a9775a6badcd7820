"""A search of whole students: which words come of choices, what is not trained, and how the best is."""

from unittest import mock

import pytest

from kdrun.config import registry
from kdrun.config.schema import ConfigError, Settings
from kdrun.sweeps.search.architectures import ArchitectureSearch
from kdrun.sweeps.search.objectives import akd_reward
from kdrun.sweeps.search.space import parsed
from tests.sweeps.search.test_study import FakeDesk
from tests.toy import settings_of

SPACE = {"families": ["plain"], "widths": [8, 8, 8], "stem": 4, "multipliers": [0.5, 1.0], "convs": ["full"], "kernels": [3]}


def search(space=None, **changes) -> ArchitectureSearch:
    settings = {key: value for key, value in registry.load("sweep", "nas_akd").items() if key not in ("_target_", "defaults")}
    return ArchitectureSearch(**(settings | {"space": registry.load("space", "small") | SPACE | (space or {})} | changes))


def test_choices_become_a_student_that_is_trained_for_a_part_of_the_epochs():
    settings = settings_of("method=kd", "recipe.epochs=40")
    space = search().space(settings, parsed(["method=kd"]))
    assert space.count == 2 * 2**3
    chosen = {key: dimension.values[-1] for key, dimension in space.dimensions.items()}
    assert space.words(chosen) == [
        "method=kd", "student=searchable", "student.family=plain", "student.stem=4", "student.widths=[8,8,8]",
        "student.strides=[1,2,2]", "student.blocks=[[full,full],[full,full],[full,full]]", "recipe.epochs=10"]
    assert settings_of(*space.words(chosen)).student.node["blocks"] == [["full", "full"]] * 3
    assert space.recipe_keys == {"epochs"}  # so that the teacher keeps its own
    with pytest.raises(ConfigError, match="the search chooses the student"):
        search().space(settings, parsed(["method=kd", "student.stem=8"]))


def test_the_reward():
    measures = {"validation_accuracy": 0.7, "flops": 2e6, "parameters": 100.0, "latency_ms": None}
    assert search().worth(measures, 0) == [pytest.approx(akd_reward(0.7, 2e6, 1e6, -0.07))]
    assert search(cost="parameters", target=200).worth(measures, 0) == [pytest.approx(0.7 * 0.5**-0.07)]
    assert search(target=None).worth(measures, 0) == [0.7]
    assert search(cost="latency_ms").worth(measures, 0) == [None]


def test_what_cannot_be():
    told = search(space={"depths": []}).problems(settings_of("student.checkpoint=s.pt"))
    assert told[0] == "sweep.space.depths: got [], wanted at least one"
    assert told[1].startswith("sweep.space: student.checkpoint has the weights of one architecture")


class SweepContext(FakeDesk):
    """Composes jobs, and makes their measures up: the accuracy grows with the number of blocks."""

    settings_of = staticmethod(lambda words: settings_of(*words))

    @property
    def settings(self):
        plain = settings_of("method=kd")
        return Settings(plain.values | {"outputs": str(self.outputs)}, plain.choices)


def test_the_best_within_the_budget_is_trained_for_all_epochs(tmp_path):
    def made_up(words):
        blocks = sum(word.count("full") for word in words)
        return {"accuracy": blocks / 10, "parameters": 100}

    context = SweepContext(tmp_path)
    bounded = search(space={"max_params": 3000}, trials=2, sampler="random", target=None, retrain_method="vanilla")
    with mock.patch("tests.sweeps.search.test_study.landscape", made_up), \
            mock.patch("kdrun.sweeps.search.architectures.teacher_kl", return_value=0.5):
        study = bounded.run(context, ["method=kd"])
    *trials, last = context.jobs
    assert len(trials) == 2
    assert all("recipe.epochs=10" in words and any(word.startswith("teacher.recipe=") for word in words) for words in trials)
    assert "recipe.epochs=10" not in last
    assert last[:2] == ["method=kd", "method=vanilla"]
    best = max(sum(word.count("full") for word in words) for words in trials)
    assert sum(word.count("full") for word in last) == best
    untrained = [trial for trial in study.trials if "untrained" in trial.user_attrs["told"]]
    assert all(trial.value == -1 or trial.user_attrs["told"]["note"].startswith("the same") for trial in untrained)
