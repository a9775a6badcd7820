"""Votes of teachers with data of their own, and what they give away."""

import math

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.multi_teacher.pate import shards
from kdrun.methods.multi_teacher.privacy import account, laplace, moment, wrong_answer
from kdrun.training.loop import distill
from tests.toy import prepared, toy_run


def test_shards_are_disjoint_and_equal():
    parts = shards(50, 7, seed=3)
    assert [len(part) for part in parts] == [7] * 7
    assert len(torch.cat(parts).unique()) == 49
    assert not torch.equal(parts[0], shards(50, 7, seed=4)[0])


def test_noise_has_its_moments_and_none_leaves_the_most_votes():
    noise = laplace([200_000], 3.0, torch.Generator().manual_seed(0))
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.var()) == pytest.approx(2 * 3.0**2, rel=0.02)
    assert float(noise.abs().mean()) == pytest.approx(3.0, rel=0.02)  # of a Gaussian of this variance 3.39
    faint = tensor([[3, 1, 0]]).double() + laplace([1, 3], 1e-6, torch.Generator().manual_seed(0))
    assert faint.argmax(dim=1).tolist() == [0]


def test_the_bound_of_a_wrong_answer():
    assert wrong_answer(tensor([[3, 1, 0]]), 0.5).tolist() == pytest.approx([3 / (4 * math.e) + 3.5 / (4 * math.exp(1.5))])
    assert wrong_answer(tensor([[4, 4, 4]]), 0.5).tolist() == pytest.approx([2 / 3])  # never more than 1 - 1/K
    # a bound indeed: how often the noise makes another class win
    votes, gamma = tensor([[9, 4, 1]]), 0.4
    noisy = votes + laplace([100_000, 3], 1 / gamma, torch.Generator().manual_seed(1))
    assert 0 < float((noisy.argmax(dim=1) != 0).double().mean()) <= float(wrong_answer(votes, gamma))


def test_the_three_bounds_of_a_moment():
    assert moment(1.0, 0.1, 2) == pytest.approx(0.1**2 * 2 * 3 / 2)
    assert moment(1.0, 4.0, 2) == 8.0
    sure = moment(1e-6, 0.5, 3)
    assert sure == pytest.approx(math.log((1 - 1e-6)**4 / (1 - math.exp(0.5) * 1e-6)**3 + 1e-6 * math.exp(1.5)))
    assert sure < moment(1.0, 0.5, 3)
    # theorem 3 holds up to 1/(e^eps + 1), and past that the others count
    assert moment(1 / (math.exp(0.5) + 1), 0.5, 3) == moment(1.0, 0.5, 3)


def test_the_account_adds_up_and_takes_the_best_moment():
    # 100 answers at noise of scale 20: (order + 1) / 2 + log(1e5) / order is least at 5
    whatever = account([1.0] * 100, 1 / 20, 1e-5, 8)
    assert (whatever.epsilon, whatever.order) == (pytest.approx(3 + math.log(1e5) / 5), 5)
    assert account([1.0] * 200, 1 / 20, 1e-5, 8).epsilon > whatever.epsilon > account([1.0] * 50, 1 / 20, 1e-5, 8).epsilon
    agreed = wrong_answer(tensor([[240, 10, *[0] * 8]] * 100), 1 / 20).tolist()
    assert account(agreed, 1 / 20, 1e-5, 8).epsilon < 0.5 * whatever.epsilon


def test_the_student_learns_the_votes_alone_and_the_table_says_what_they_cost():
    run = toy_run("pate", "online", "method.noise=0", "method.queries=10")
    labels = run.data.train.labels.clone()
    distill(run)
    method = run.method
    assert method.votes.sum(dim=1).tolist() == [2] * 10
    assert torch.equal(method.votes.gather(1, method.answers[:, None])[:, 0], method.votes.amax(dim=1))
    assert torch.equal(labels, run.data.train.labels)
    (row,) = method.extra_tables(run)["privacy"]
    assert (row["answered_queries"], row["private_samples"], row["answers_with_most_votes"]) == (10, 20, 1.0)
    assert "epsilon" not in row  # without noise there is none
    noisy = toy_run("pate", "online", "method.noise=5")
    distill(noisy)
    (row,) = noisy.method.extra_tables(noisy)["privacy"]
    assert row["answered_queries"] == 28
    wrong = wrong_answer(noisy.method.votes, 1 / 5).tolist()
    assert row["epsilon"] == account(wrong, 1 / 5, 1e-5, 8).epsilon <= row["epsilon_whatever_the_data"]


@pytest.mark.parametrize(("words", "line"), [
    (("dataset=digits", "dataset.labelled=null"), "learns from samples without labels, and here all have theirs"),
    (("method.count=11",), "method.count is 11, and 20 private .* make parts of 1; wanted two at least in each, so at most 10"),
    (("method.queries=29",), "method.queries is 29, but there are 28 samples without labels")])
def test_what_cannot_be_is_refused_before_anything_is_trained(words, line):
    with pytest.raises(ConfigError, match=line):
        prepared(("pate", *words))
