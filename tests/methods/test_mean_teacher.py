"""Mean teachers: the mean of weights, the growing weight, and labelled and unlabelled pictures in one batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn, tensor

from kdrun.data.batch import Batch
from kdrun.methods.losses import ramp
from kdrun.methods.losses.views import consistency
from kdrun.methods.self_taught.mean_teacher import VIEW, MeanTeacher, past_share
from kdrun.models.roles import Networks
from kdrun.training.loop import distill
from tests.toy import toy_run

F64 = torch.float64


def mean_teacher(factory, data, **changes):
    usual = {"pool_ratio": 3, "weight": 10.0, "ramp_epochs": 0, "decay": 0.9, "noise": 0.0, "second_head": None,
             "statistics": "own"}
    method, networks = MeanTeacher(**(usual | changes)), Networks(factory().student())
    method.random = torch.Generator().manual_seed(0)
    method.setup(networks, data)
    return method, networks


def batch_of(data, count, labelled=True):
    x = torch.randn(count, *data.shape)
    return Batch(x, torch.arange(count) % 4 if labelled else None, views={VIEW: x.clone()})


def test_numbers():
    teacher, student = tensor([[2.0, 0.0]], dtype=F64), tensor([[0.0, 0.0]], dtype=F64)
    assert float(consistency(teacher, student)) == pytest.approx(0.145006, abs=1e-6)
    assert [ramp(done, 10) for done in (0, 5, 10)] == pytest.approx([0.006738, 0.286505, 1], abs=1e-6)
    assert [past_share(count, 0.99) for count in (1, 2, 99, 200)] == pytest.approx([0.5, 2 / 3, 0.99, 0.99])


def test_the_mean_of_constant_weights(factory, data):
    method, networks = mean_teacher(factory, data)
    for role, value in ((networks.student, 1.0), (method.mean, 0.0)):
        for weight in role.parameters():
            nn.init.constant_(weight, value)
    for _ in range(5):
        method.average(networks.student)
    assert all(torch.allclose(weight, torch.full_like(weight, 5 / 6)) for weight in method.mean.parameters())


def test_labels_count_for_their_share_of_the_batch_and_the_mean_gets_no_gradient(factory, data):
    method, networks = mean_teacher(factory, data)
    batch = batch_of(data, 4)
    batch.pool = batch_of(data, 12, labelled=False)
    terms = method.loss(networks, batch)
    networks.student.train()
    together = networks.student.network(torch.cat([batch.x, batch.pool.x])).logits
    assert float(terms["ce"].detach()) == pytest.approx(float(F.cross_entropy(together[:4], batch.y).detach()) / 4, rel=1e-5)
    terms["consistency"].backward()
    assert all(weight.grad is None for weight in method.mean.parameters())
    assert networks.student.network.head.weight.grad is not None


def test_a_second_head_keeps_the_classifier_from_the_teachers_pull(factory, data):
    method, networks = mean_teacher(factory, data, second_head=0.01)
    terms = method.loss(networks, batch_of(data, 8))
    classifier = networks.student.network.head.weight
    assert torch.autograd.grad(terms["consistency"], classifier, retain_graph=True, allow_unused=True) == (None,)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(terms["heads"], [classifier, method.head.weight]))


@pytest.mark.parametrize("statistics", ["own", "student"])
def test_statistics_of_the_mean(factory, data, statistics):
    method, networks = mean_teacher(factory, data, statistics=statistics, noise=0.5)
    networks.student.train()
    method.loss(networks, batch_of(data, 8))
    method.average(networks.student)
    same = [torch.equal(own, kept) for own, kept in zip(networks.student.buffers(), method.mean.buffers(), strict=True)]
    assert all(same) == (statistics == "student")


def test_both_are_products_and_the_mean_is_the_student():
    run = toy_run("mean_teacher", "self")
    distill(run)
    products = run.method.trained_networks(run.networks)
    assert list(products) == ["student", "last weights"]
    assert products["student"] is run.method.mean
    assert int(run.method.updates) == 2  # an epoch is of the 20 labelled pictures
    assert not run.method.notes
    alone = toy_run("mean_teacher", "self", "dataset.labelled=null", "dataset=digits", "dataset.train_limit=48")
    distill(alone)
    assert alone.method.notes == ["all samples have labels, so this is self-distillation; dataset.labelled=80 would keep those "
                                  "of so many"]
