"""Two views of each sample."""

import pytest
import torch
from torch import tensor

from kdrun.data.batch import Batch
from kdrun.data.paired_views import Beside
from kdrun.methods.losses import kd
from kdrun.methods.losses.feature import mean_discrepancy
from kdrun.methods.self_taught.ddgsd import DDGSD, VIEW
from kdrun.models.roles import Networks

F64 = torch.float64


def method():
    return DDGSD(temperature=3.0, weight=1.0, embedding_weight=5e-4)


def test_the_discrepancy_is_of_vectors_not_of_their_means():
    first, second = tensor([[2.0, 0.0], [0.0, 0.0]], dtype=F64), tensor([[0.0, 1.0], [0.0, 1.0]], dtype=F64)
    assert float(mean_discrepancy(first, second)) == pytest.approx(2, abs=1e-12)  # (1, 0) against (0, 1)
    assert float(mean_discrepancy(first, first[[1, 0]])) == 0  # means alone count


def test_both_pull_and_neither_is_pulled_by_its_own_target():
    first, second = (tensor(rows, dtype=F64, requires_grad=True) for rows in ([[2.0, 0.0]], [[0.0, 0.5]]))
    slopes = torch.autograd.grad(method().agreement(first, second), [first, second])
    for own, other, slope in ((first, second, slopes[0]), (second, first, slopes[1])):
        alone = own.detach().requires_grad_()
        assert torch.allclose(slope, torch.autograd.grad(kd(other, alone, 3.0), alone)[0], atol=1e-12)


def test_equal_views_have_nothing_to_agree_on(factory, data):
    student = factory().student()
    student.double().eval()
    x = torch.randn(4, *data.shape, dtype=F64)
    terms = method().loss(Networks(student), Batch(x, tensor([0, 1, 2, 3]), views={VIEW: x.clone()}))
    assert [float(terms[name].detach()) for name in ("kd", "mmd")] == pytest.approx([0, 0], abs=1e-12)
    once = method().label_loss(student.network(x), Batch(x, tensor([0, 1, 2, 3])))
    assert [float(terms[name].detach()) for name in ("ce", "ce second view")] == pytest.approx([float(once.detach())] * 2)


def test_the_views_are_of_the_same_samples_and_independent(data):
    plain = data.stream(batch_size=16, seed=3, device=torch.device("cpu"))
    batches = list(Beside(plain, VIEW).epoch(1, 2))
    assert all(torch.equal(batch.views[VIEW], plain.batch(batch.index, 1, 2, 0, VIEW).x) for batch in batches)
    same = torch.cat([(batch.views[VIEW] == batch.x).flatten(1).all(1) for batch in batches])
    assert 0 < same.double().mean() < 0.4  # one crop in nine is the same by chance
