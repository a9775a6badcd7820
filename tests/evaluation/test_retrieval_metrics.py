"""Retrieval and verification measures on numbers that can be computed by hand, and against scikit-learn."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from kdrun.evaluation import retrieval_metrics as measure
from kdrun.evaluation.retrieval_metrics import Pairs

FIVE = torch.tensor([(1, 0), (.9, .1), (0, 1), (.1, .9), (.8, .6)]), torch.tensor([0, 0, 1, 1, 1])
SEVEN = Pairs(torch.tensor([.9, .6, .4], dtype=torch.float64), torch.tensor([.7, .3, .2, .1], dtype=torch.float64))


def test_recall_at_1():
    assert measure.recall_at_1(*FIVE) == pytest.approx(0.8)
    assert measure.recall_at_1(FIVE[0] * torch.tensor([3.0, 1, 5, 1, 7])[:, None], FIVE[1]) == pytest.approx(0.8)


def test_queries_are_compared_with_all_however_many_at_once(monkeypatch):
    whole = [function(*FIVE) for function in (measure.recall_at_1, measure.mean_average_precision)]
    monkeypatch.setattr(measure, "CHUNK", 2)
    assert [function(*FIVE) for function in (measure.recall_at_1, measure.mean_average_precision)] == pytest.approx(whole)


def test_ties_are_broken_towards_the_wrong_class():
    same, labels = torch.ones(4, 2), torch.tensor([0, 0, 1, 1])
    assert measure.recall_at_1(same, labels) == 0
    assert measure.roc_auc(measure.pairs(same, labels)) == 0.5
    assert measure.mean_average_precision(same, labels) == pytest.approx(1 / 3)


def test_samples_alone_in_their_class_ask_nothing():
    embeddings, labels = torch.eye(3), torch.tensor([0, 1, 2])
    assert measure.recall_at_1(embeddings, labels) is None
    assert measure.mean_average_precision(embeddings, labels) is None
    together = torch.cat([FIVE[0], torch.tensor([[-1.0, -1]])]), torch.cat([FIVE[1], torch.tensor([2])])
    assert measure.recall_at_1(*together) == pytest.approx(0.8)


def test_mean_average_precision():
    embeddings = torch.tensor([(1, 0), (.9, .1), (.8, .6), (0, 1.0)])  # seen from the first: 2nd, 3rd, 4th
    assert measure.mean_average_precision(embeddings, torch.tensor([0, 1, 0, 2])) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert measure.mean_average_precision(embeddings[[0, 1, 3]], torch.tensor([0, 0, 1])) == 1


def test_verification():
    assert measure.roc_auc(SEVEN) == pytest.approx(0.833333, abs=1e-6)
    assert measure.true_accept_rate(SEVEN, 0) == pytest.approx(1 / 3)
    assert measure.true_accept_rate(SEVEN, 0.25) == 1
    assert measure.true_accept_rate(SEVEN, 1) == 1
    assert measure.equal_error_rate(SEVEN) == pytest.approx(0.25)


def test_equal_errors_between_two_points_of_the_curve():
    tied = Pairs(torch.tensor([1.0, 0]), torch.tensor([0.0, 0]))  # from (0, 1/2) straight to (1, 0): the lines meet at 1/3
    assert measure.equal_error_rate(tied) == pytest.approx(1 / 3)


def test_a_rate_that_the_pairs_cannot_show_is_refused():
    with pytest.raises(ValueError, match=r"0\.1 cannot be measured on 4 pairs of different classes; wanted at least 0\.25"):
        measure.true_accept_rate(SEVEN, 0.1)


def test_all_pairs_as_scikit_learn_sees_them():
    draws = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randint(-2, 3, (12, 2), generator=draws) + 0.5, torch.arange(12) % 3
    compared = measure.pairs(embeddings, labels)
    assert (len(compared.same), len(compared.different)) == (18, 48)
    # rounded: scikit-learn takes cosines that differ in their last bit for different ones, and so does `roc_auc`
    rounded = Pairs(compared.same.round(decimals=9), compared.different.round(decimals=9))
    truth = [1] * 18 + [0] * 48
    assert measure.roc_auc(rounded) == pytest.approx(roc_auc_score(truth, torch.cat(rounded).numpy()))


def test_drawn_pairs_give_every_class_the_same_chance():
    labels = torch.cat([torch.zeros(90, dtype=torch.long), torch.ones(10, dtype=torch.long), torch.tensor([2])])
    place = torch.arange(101.0) / 101 + labels  # an angle that tells the sample
    circle = torch.stack([place.cos(), place.sin()], dim=1)
    first, second = measure._drawn(labels, 2000, torch.Generator().manual_seed(0))
    assert bool((first != second).all())
    same, different = labels[first[:2000]], (labels[first[2000:]], labels[second[2000:]])
    assert torch.equal(same, labels[second[:2000]])
    assert (same == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)  # the third class has no pair
    assert bool((different[0] != different[1]).all())
    assert (different[0] == 2).double().mean().item() == pytest.approx(1 / 3, abs=0.05)
    drawn = [measure.pairs(circle, labels, 200, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(torch.cat(drawn[0]), torch.cat(drawn[1]))


def test_classes_that_make_no_pairs():
    with pytest.raises(ValueError, match="3 samples of 3 classes make no pairs"):
        measure.pairs(torch.eye(3), torch.arange(3))
