"""What every method keeps to, whatever its family: one test over every conf/method/*.yaml.

`pytest tests/methods -k KEY` is the whole contract of a method and the numbers of its loss, in a few seconds.
"""

import contextlib
import math
from unittest import mock

import pytest
import torch

from kdrun.config import registry
from kdrun.config.schema import Settings
from kdrun.config.validation import problems
from kdrun.methods.base import Run
from kdrun.training.loop import distill
from tests.toy import quick_for_some, rows_of, state, toy_experiment, toy_run, toy_settings

METHODS = list(registry.options("method"))


def schemes_of(key: str) -> list[str]:
    return list(registry.method_card(key).schemes)


def test_every_method_says_what_it_is():
    for key in METHODS:
        card = registry.method_card(key)
        assert card.summary.endswith((".", ")", ").")), key
        assert set(card.knowledge) <= {"response", "feature", "relation"}, key
        assert card.source, key
        assert set(card.schemes) <= {"offline", "online", "self"}, key
        assert card.teachers in ("none", "one", "many"), key
        assert card.teachers != "none" or "offline" not in card.schemes, key  # there is nobody to train first


class Killed(BaseException):
    """As abrupt as a signal."""


def trained(run: Run, steps: int | None = None) -> int:
    """Train a run, which is killed in this step where there is one; returns how many steps it took."""
    done = 0

    def step(_: object) -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise Killed

    with mock.patch("kdrun.utils.progress.Silent.step", step), contextlib.suppress(Killed):
        distill(run)
    return done


@pytest.mark.parametrize(("key", "scheme"), [quick_for_some(key, scheme) for key in METHODS for scheme in schemes_of(key)])
def test_trains_its_players_alone_and_ends_in_the_same_bytes_however_often_it_is_killed(key, scheme, tmp_path):
    whole = toy_run(key, scheme)
    teachers = [(teacher, state(teacher)) for teacher in whole.networks.teachers]
    first = state(whole.networks.student)
    count = trained(whole)
    for teacher, before in teachers:
        same = all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
        # offline a teacher is frozen; online it learns; its own past is renewed by the scheme, where that teaches
        still = scheme == "offline" or (scheme == "self" and not whole.method.past_teaches)
        assert same == still, "the teacher moved" if not same else "the teacher did not learn"
    last = whole.networks.student.state_dict()
    assert first.keys() != last.keys() or any(not torch.equal(first[name], last[name]) for name in first)
    terms = [row for row in whole.history if row[3] == "train"]
    assert terms
    assert all(math.isfinite(row[5]) for row in terms)

    # one life after the other in the same folder: killed in the first step, in between and in the last one
    left = count
    for share in (0.0, 0.4, 0.6, 1.0) if scheme == schemes_of(key)[0] else (0.5, 1.0):
        steps = 1 + round(share * (left - 1))
        torch.rand(3)  # what others drew before must not matter
        run = toy_run(key, scheme, folder=tmp_path)
        assert trained(run, steps) == steps
        assert run.history != whole.history
        left -= steps - 1  # a step counts once it is saved
    run = toy_run(key, scheme, folder=tmp_path)
    assert trained(run) == 1
    assert run.history == whole.history
    assert all(torch.equal(last[name], value) for name, value in run.networks.student.state_dict().items())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Teachers and baselines that several methods have in common are trained once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.parametrize("key", [quick_for_some(key) for key in METHODS])
def test_runs_from_its_config_and_under_its_own_schemes_alone(key, outputs):
    rows = rows_of(toy_experiment(key, outputs))
    assert rows["student"]["method"] == key
    assert rows["baseline"]["headline_value"] is not None
    assert 0 <= rows["student"]["headline_value"] <= 1
    usual = toy_settings(key)
    partial = usual.run.teacher_classes is not None  # nobody is compared with teachers of some of the classes
    assert (rows["student"]["relative_error"] is None) == ("teacher" not in rows or partial)
    for scheme in {"offline", "online", "self"} - set(schemes_of(key)):
        other = Settings(usual.values | {"scheme": registry.load("scheme", scheme)}, usual.choices | {"scheme": scheme})
        assert any(f"does not run under scheme={scheme}" in line for line in problems(other))
