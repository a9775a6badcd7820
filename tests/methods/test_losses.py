import doctest
import inspect
import math
import re

import pytest
import torch
import torch.nn.functional as F

from kdrun import functional
from kdrun.methods.losses import distances, kd, kl, same_size, soft_cross_entropy, unit_rows

TEACHER, STUDENT = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 0.0]]).double()
SOFT = [kl, kd, soft_cross_entropy]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "first", "divergence", "softened"), [
    (1, 0.880797, 0.327813, 0.327813), (2, 0.731059, 0.110944, 0.443776), (4, 0.622459, 0.030300, 0.484798)])
def test_reference_values_of_a_pair_of_two_classes(temperature, first, divergence, softened):
    assert float((TEACHER / temperature).softmax(1)[0, 0]) == pytest.approx(first, abs=1e-6)
    assert float(kl(TEACHER, STUDENT, temperature)) == pytest.approx(divergence, abs=1e-6)
    assert float(kd(TEACHER, STUDENT, temperature)) == pytest.approx(softened, abs=1e-6)
    assert float(soft_cross_entropy(TEACHER, STUDENT, temperature)) == pytest.approx(math.log(2), abs=1e-12)


def test_softened_divergence_tends_to_half_the_variance_of_the_gap():
    teacher, student = torch.tensor([[3.0, -1, -2]]).double(), torch.tensor([[0.5, 0.5, -1]]).double()
    gap = student - teacher
    limit = float((gap - gap.mean()).square().sum() / (2 * gap.numel()))
    assert limit == pytest.approx(1.583333, abs=1e-6)
    assert float(kd(teacher, student, 1000)) == pytest.approx(1.5851, abs=5e-5)
    assert float(kd(teacher, student, 1e5)) == pytest.approx(limit, abs=3e-5)
    assert float(kd(TEACHER, STUDENT, 1e5)) == pytest.approx(0.5, abs=3e-5)


def test_a_divergence_is_the_sum_over_classes_and_the_mean_over_samples():
    teacher, student = draw(5, 7), draw(5, 7, seed=1)
    total = 0.0
    for wanted, given in zip((teacher / 3).softmax(1).tolist(), (student / 3).softmax(1).tolist(), strict=True):
        total += sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True))
    assert float(kl(teacher, student, 3)) == pytest.approx(total / 5)


def test_soft_cross_entropy_is_divergence_plus_the_targets_entropy():
    teacher, student = draw(6, 5), draw(6, 5, seed=1)
    wanted = (teacher / 2).softmax(1)
    entropy = -(wanted * wanted.log()).sum(1).mean()
    assert float(soft_cross_entropy(teacher, student, 2)) == pytest.approx(float(kl(teacher, student, 2) + entropy))


def test_soft_cross_entropy_with_certain_targets_is_the_hard_one():
    labels, student = torch.tensor([0, 3, 1]), draw(3, 4)
    certain = F.one_hot(labels, 4) * 1000.0
    assert float(soft_cross_entropy(certain.double(), student)) == pytest.approx(float(F.cross_entropy(student, labels)))


def test_divergence_from_itself_is_zero():
    logits = draw(4, 10)
    assert float(kl(logits, logits, 4)) == pytest.approx(0, abs=1e-12)
    assert float(soft_cross_entropy(logits, logits)) > 0.1  # the entropy is left


@pytest.mark.parametrize("loss", SOFT)
def test_shifts_permutations_and_repetition_change_nothing(loss):
    teacher, student = draw(6, 5), draw(6, 5, seed=1)
    value = float(loss(teacher, student, 4.0))
    assert float(loss(teacher + draw(6, 1, seed=2), student, 4.0)) == pytest.approx(value)
    assert float(loss(teacher, student + draw(6, 1, seed=3), 4.0)) == pytest.approx(value)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert float(loss(teacher[:, order], student[:, order], 4.0)) == pytest.approx(value)
    assert float(loss(teacher[:, order], student, 4.0)) != pytest.approx(value)
    assert float(loss(teacher.repeat(2, 1), student.repeat(2, 1), 4.0)) == pytest.approx(value)


@pytest.mark.parametrize(("loss", "factor"), [(kl, 1 / 3), (soft_cross_entropy, 1 / 3), (kd, 3)])
def test_the_gradient_is_the_gap_of_probabilities(loss, factor):
    teacher, student = draw(4, 5), draw(4, 5, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(loss(teacher, student, 3.0), student)
    expected = factor * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 4
    torch.testing.assert_close(slope, expected.detach())


@pytest.mark.parametrize("loss", SOFT)
def test_the_target_is_never_trained(loss):
    teacher, student = draw(2, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_()
    loss(teacher, student, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("loss", SOFT)
def test_huge_logits_stay_finite(loss):
    teacher, student = torch.tensor([[300.0, -300, 0]]), torch.tensor([[-300.0, 300, 0]]).requires_grad_()
    value = loss(teacher, student, 1.0)
    value.backward()
    assert value.item() == pytest.approx(600)
    assert bool(torch.isfinite(student.grad).all())


def test_distances_are_euclidean_with_a_zero_diagonal():
    vectors = draw(6, 4)
    found = distances(vectors)
    torch.testing.assert_close(found, torch.cdist(vectors, vectors), atol=1e-6, rtol=0)
    assert found.diagonal().tolist() == [0] * 6
    assert float(distances(torch.tensor([[0.0, 0], [3, 4]]))[0, 1]) == pytest.approx(5)


def test_distances_of_equal_rows_have_a_finite_gradient():
    vectors = torch.tensor([[1.0, 2], [1, 2], [0, 0]], requires_grad=True)
    found = distances(vectors)
    assert found[0, 1].item() == pytest.approx(0, abs=1e-5)
    found.sum().backward()
    assert bool(torch.isfinite(vectors.grad).all())
    assert float(vectors.grad[2].abs().sum()) > 0


def test_unit_rows_have_length_one_and_zero_rows_stay():
    vectors = torch.tensor([[3.0, 4], [0, 0], [0, -2]], requires_grad=True)
    found = unit_rows(vectors)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0, 0], [0, -1]]))
    found.sum().backward()
    assert bool(torch.isfinite(vectors.grad).all())


def test_same_size_averages_the_larger_map():
    large = torch.arange(16.0).reshape(1, 1, 4, 4)
    small = torch.zeros(1, 3, 2, 2)
    expected = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    for first, second in ((large, small), (small, large)):
        shapes = {tuple(maps.shape[-2:]) for maps in same_size(first, second)}
        assert shapes == {(2, 2)}
    assert torch.equal(same_size(large, small)[0], expected)
    assert same_size(large, small)[1] is small
    assert same_size(large, large)[0] is large


def test_same_size_takes_the_smaller_of_each_side():
    first, second = same_size(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 2, 4))
    assert first.shape[-2:] == second.shape[-2:] == (2, 2)


MODULES = dict.fromkeys([functional, *(inspect.getmodule(getattr(functional, name)) for name in functional.__all__)])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_true(module):
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert not failed


def test_every_public_loss_has_an_example_and_names_its_source():
    for name in functional.__all__:
        text = getattr(functional, name).__doc__
        assert ">>> " in text, name
        general = inspect.getmodule(getattr(functional, name)).__name__.endswith(("arithmetic", "response"))
        assert general or re.search(r"\b(199|20[012])\d\b", text), name


@pytest.mark.parametrize("loss", [
    lambda teacher, student: kd(teacher, student, 4.0),
    lambda teacher, student: soft_cross_entropy(teacher, student),
    lambda teacher, student: functional.dkd(teacher, student, torch.zeros(0, dtype=torch.long), 4.0, 1.0, 8.0),
    lambda teacher, student: functional.logit_mse(teacher, student),
    lambda teacher, student: functional.logit_mse(teacher, student, reduction="mean", center=True),
])
def test_of_no_row_a_loss_is_zero_with_a_gradient(loss):
    student = torch.zeros(0, 3, requires_grad=True)
    value = loss(torch.zeros(0, 3), student)
    value.backward()
    assert value.item() == 0.0
    assert student.grad.shape == (0, 3)
