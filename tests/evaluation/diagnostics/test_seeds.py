"""Class-level impact and compression-identified exemplars by numbers that can be counted by hand."""

import pytest
import torch
from scipy.stats import t as student_t

from kdrun.evaluation.diagnostics.mismatches import Mismatches, mismatches
from kdrun.evaluation.diagnostics.seeds import class_impact, exemplars, modal_labels


def answers(*labels: int, classes: int = 3) -> torch.Tensor:
    """Logits that say these classes."""
    return torch.nn.functional.one_hot(torch.tensor(labels), classes).float()


def test_two_populations_that_vote_differently_on_one_picture():
    first = [answers(label) for label in (1, 1, 2)]
    second = [answers(label) for label in (2, 2, 1)]
    found = exemplars(first, second, torch.tensor([1]))
    assert found.identified.tolist() == [True]
    assert found.taxicab.tolist() == pytest.approx([2 / 3])
    assert [share.item() for share in found.right] == pytest.approx([2 / 3, 1 / 3])
    assert (found.modal[0].item(), found.modal[1].item()) == (1, 2)


def test_equal_populations_have_no_exemplar():
    same = [answers(0, 1, 2), answers(0, 2, 2)]
    found = exemplars(same, same, torch.tensor([0, 0, 0]))
    assert not found.identified.any()
    assert not found.taxicab.any()


def test_opposite_answers_are_two_apart():
    found = exemplars([answers(0)], [answers(1)], torch.tensor([0]))
    assert found.taxicab.tolist() == [2]


def test_of_equally_frequent_classes_the_first_is_modal():
    assert modal_labels(torch.tensor([[0.0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.2, 0.6]])).tolist() == [1, 0, 2]


def test_class_impact_is_welchs_test_of_normalised_recall():
    # two classes of 10 pictures each; so many right of each, by network
    labels = torch.tensor([0] * 10 + [1] * 10)

    def network(right: int, other: int) -> torch.Tensor:
        return answers(*[0] * right, *[1] * (10 - right), *[1] * other, *[0] * (10 - other), classes=2)

    first = [network(9, 9), network(9, 8), network(8, 9)]
    second = [network(5, 9), network(6, 9), network(5, 10)]
    found = class_impact(first, second, labels)
    # recall - accuracy of class 0: 0, 0.05, -0.05; and -0.2, -0.15, -0.25
    one = found[0]
    assert one.recall == pytest.approx((26 / 30, 16 / 30))
    assert one.difference == pytest.approx(-0.2)
    scale = (0.05**2 / 3 + 0.05**2 / 3) ** 0.5
    assert one.t == pytest.approx(-0.2 / scale)
    assert one.p == pytest.approx(2 * student_t.sf(0.2 / scale, 4))  # equal spreads: 4 degrees of freedom
    assert one.p_holm == pytest.approx(2 * one.p)  # of two classes, whose normalised recalls mirror each other
    assert found[1].difference == pytest.approx(0.2)


def test_a_population_without_spread_is_not_tested():
    labels = torch.tensor([0, 1])
    found = class_impact([answers(0, 1)] * 2, [answers(0, 0)] * 2, labels)
    assert [one.p for one in found] == [None, None]
    assert found[1].difference == pytest.approx(-0.5)  # 1 - 1 became 0 - 0.5


def test_a_class_without_pictures_is_left_out():
    found = class_impact([answers(0, 1)] * 2, [answers(0, 1)] * 2, torch.tensor([0, 1]))
    assert [one.label for one in found] == [0, 1]


def test_mismatches_are_lost_won_or_both_wrong():
    teacher, student, labels = answers(0, 0, 1, 1, 2), answers(0, 1, 2, 0, 2), torch.tensor([0, 0, 2, 2, 1])
    assert mismatches(teacher, student, labels) == Mismatches(mismatches=3, lost=1, won=1, both_wrong=1)


def test_networks_that_agree_have_no_mismatch_whatever_their_accuracy():
    assert mismatches(answers(0, 1), answers(0, 1), torch.tensor([2, 2])) == (0, 0, 0, 0)
