"""Class-wise self-knowledge: partners and their answers."""

import pytest
import torch
from torch import tensor

from kdrun.data.batch import Batch
from kdrun.data.paired_views import Beside
from kdrun.methods.losses import kd
from kdrun.methods.self_taught.cskd import CSKD, VIEW, partners
from kdrun.models.roles import Networks


def test_partners_share_the_class_and_any_may_be_drawn():
    labels = tensor([2, 0, 1, 2, 2, 0])
    drawn = partners(labels, seed=1)
    rows = torch.stack([drawn(epoch) for epoch in range(3000)])
    assert (labels[rows] == labels).all()
    counts = (rows[:, 0, None] == tensor([0, 3, 4])).sum(0).double()
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 13.8  # chi-square, 2 degrees, 0.1 %
    assert (rows[:, 2] == 2).all()  # alone in its class
    assert torch.equal(drawn(5), partners(labels, seed=1)(5))
    assert not torch.equal(drawn(5), drawn(6))


def test_batches_bring_their_partners_pictures(data):
    plain = data.stream(batch_size=16, seed=3, device=torch.device("cpu"))
    drawn = partners(data.train.labels, 3)
    stream = Beside(plain, VIEW, drawn)
    assert len(stream) == len(plain)
    for batch, usual in zip(stream.epoch(2, 5), plain.epoch(2, 5), strict=True):
        assert torch.equal(batch.x, usual.x)
        assert (batch.epoch, batch.epochs, batch.step) == (usual.epoch, usual.epochs, usual.step)
        assert torch.equal(batch.views[VIEW], plain.batch(drawn(2)[batch.index], 2, 3, 0, VIEW).x)
        assert torch.equal(data.train.labels[drawn(2)[batch.index]], batch.y)
    late = next(iter(stream.epoch(2, 5, first=3)))
    assert late.step == 3
    assert torch.equal(late.views[VIEW], plain.batch(drawn(2)[late.index], 2, 3, 0, VIEW).x)


@pytest.fixture
def student(factory):
    student = factory().student()
    student.double().eval()
    return student


def test_the_loss(student, data):
    torch.manual_seed(0)
    x, other = torch.randn(2, 4, *data.shape, dtype=torch.float64)
    method, labels = CSKD(temperature=4.0, weight=3.0), tensor([0, 1, 2, 3])
    same = method.loss(Networks(student), Batch(x, labels, views={VIEW: x.clone()}))
    assert float(same["kd"].detach()) == pytest.approx(0, abs=1e-12)
    terms = method.loss(Networks(student), Batch(x, labels, views={VIEW: other}))
    wanted = 3 * kd(student.network(other).logits, student.network(x).logits, 4.0)
    assert float(terms["kd"].detach()) == pytest.approx(float(wanted.detach()), abs=1e-12)


def test_the_partner_gets_no_gradient(student, data):
    x, other = (torch.randn(4, *data.shape, dtype=torch.float64, requires_grad=True) for _ in range(2))
    terms = CSKD(temperature=4.0, weight=1.0).loss(Networks(student), Batch(x, tensor([0, 1, 2, 3]), views={VIEW: other}))
    sum(terms.values()).backward()
    assert x.grad.abs().sum() > 0
    assert other.grad is None


def test_batch_statistics_see_both_halves(factory, data):
    student = factory().student()
    norm = next(part for part in student.modules() if isinstance(part, torch.nn.BatchNorm2d))
    student.train()
    x, other = torch.randn(2, 4, *data.shape)
    CSKD(temperature=4.0, weight=1.0).loss(Networks(student), Batch(x, tensor([0, 1, 2, 3]), views={VIEW: other}))
    assert int(norm.num_batches_tracked) == 2
