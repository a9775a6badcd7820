"""The policy gradient by hand, and that it finds the better choice."""

import math

import optuna
import pytest

from kdrun.sweeps.search.reinforce import Reinforce
from kdrun.utils.policy_gradient import policy, shares


def test_the_first_step_has_no_baseline_and_changes_nothing():
    assert policy([(0, 1.0), (1, 0.0)], 2, rate=1.0, rollouts=2) == [0, 0]


def test_a_step_goes_along_advantage_times_the_score():
    # mean of the first step 0.5; then 1.0 for place 0: advantage 0.5, gradient of log softmax (1/2, -1/2)
    assert policy([(0, 0.5), (0, 1.0)], 2, rate=0.1, rollouts=1) == pytest.approx([0.025, -0.025])
    # two rollouts are averaged
    rewarded = [(0, 0.5), (1, 0.5), (0, 1.0), (1, 0.0)]
    assert policy(rewarded, 2, rate=0.1, rollouts=2) == pytest.approx([0.05 * (0.25 + 0.25), -0.05 * (0.25 + 0.25)])


def test_an_unfinished_step_counts_for_nothing():
    assert policy([(0, 0.5), (1, 0.5), (0, 9.0)], 2, rate=1.0, rollouts=2) == [0, 0]


def test_shares_are_a_softmax():
    assert shares([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])


def test_it_comes_to_prefer_what_is_rewarded():
    study = optuna.create_study(direction="maximize")
    space = {"width": optuna.distributions.CategoricalDistribution(("a", "b", "c"))}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for number in range(120):
        study.sampler = Reinforce(2.0, 4, 0, number)
        trial = study.ask(space)
        study.tell(trial, {"a": 0.0, "b": 1.0, "c": 0.2}[trial.params["width"]])
    late = [trial.params["width"] for trial in study.trials[-40:]]
    assert late.count("b") > 30
