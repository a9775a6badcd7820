"""Noisy students: what is learned of the teacher's answers to the pool, and under which noise."""

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.self_taught.noisy_student import NoisyStudent, balanced
from kdrun.models.roles import Networks
from kdrun.training.loop import distill
from tests.toy import prepared, toy_run


def noisy_student(**changes):
    usual = {"rounds": 1, "networks": None, "pool_ratio": 5, "confidence": 0.3, "labels": "soft", "teacher_temperature": 1.0,
             "noise": 0.0, "dropout": 0.0}
    method = NoisyStudent(**(usual | changes))
    method.random = torch.Generator().manual_seed(0)
    return method


def test_a_rare_class_is_repeated_and_a_frequent_one_loses_its_least_sure():
    confidence, labels = tensor([0.9, 0.5, 0.8, 0.7, 0.6]), tensor([0, 0, 0, 0, 2])
    assert balanced(confidence, labels, classes=3, each=3).tolist() == [0, 2, 3, 4, 4, 4]  # nobody is of class 1


def test_the_pool_weighs_as_much_more_as_it_is_larger(factory, data):
    method, networks = noisy_student(), Networks(factory().student())
    method.register_buffer("targets", torch.rand(20, 4).softmax(dim=1))
    batch = Batch(torch.randn(2, *data.shape), tensor([0, 1]))
    batch.pool = Batch(torch.randn(10, *data.shape), index=torch.arange(10, 20))
    terms = method.loss(networks, batch)
    logits = networks.student.network(torch.cat([batch.x, batch.pool.x])).logits.detach()
    wanted = -(method.targets[10:] * F.log_softmax(logits[2:], dim=1)).sum(dim=1).mean()
    assert float(terms["pool"].detach()) == pytest.approx(5 * float(wanted), rel=1e-5)
    assert float(terms["ce"].detach()) == pytest.approx(float(F.cross_entropy(logits[:2], batch.y)), rel=1e-5)
    assert float(soft_cross_entropy(method.targets.log(), torch.zeros(20, 4))) == pytest.approx(float(tensor(4.0).log()))


def test_noise_is_on_pictures_and_before_the_classifier_and_leaves_no_trace(factory, data):
    student, x = factory().student(), torch.randn(4, *data.shape)
    student.eval()
    plain = student.network(x).logits
    for changes in ({"noise": 0.3}, {"dropout": 0.5}):
        answer = noisy_student(**changes).noisy(student, x)
        assert not torch.allclose(answer.logits, plain)
        assert ("noise" in changes) == (not torch.equal(answer.embedding, student.network(x).embedding))
        student.forget()
    assert torch.equal(student.network(x).logits, plain)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_the_teacher_answers_once_without_noise(labels):
    run = toy_run("noisy_student", "self", f"method.labels={labels}", "method.teacher_temperature=2", "method.confidence=0")
    distill(run)
    assert list(run.trained) == ["generation 0", "generation 1"]
    method, teacher = run.method, run.networks.teacher
    assert teacher.name == "generation 1"
    run.networks.teachers = [teacher]
    rows = method.answer(run)
    pool = next(iter(run.data.plain(run.data.pool[rows], torch.device("cpu"), len(rows))))
    with torch.no_grad():
        said = teacher.network(pool.x).logits
    if labels == "soft":  # p to the power of 1/T, and 1 in sum again
        wanted = said.softmax(1).sqrt() / said.softmax(1).sqrt().sum(1, keepdim=True)
    else:
        wanted = F.one_hot(said.argmax(1), 10).float()
    assert torch.allclose(method.targets, wanted, atol=1e-5)


def test_generations_of_other_networks():
    run = toy_run("noisy_student", "self", "method.rounds=2", "method.networks=[cnn,mlp]")
    models = []
    for phase in run.method.phases(run):
        models.append((phase.name, run.networks.student.model))
    assert models == [("generation 0", "cnn"), ("generation 1", "mlp"), ("generation 2", "cnn")]
    with pytest.raises(ConfigError, match="networks: 1 names, but 2 generations come before the last"):
        prepared(("noisy_student", "method.rounds=2", "method.networks=[cnn]"))
    with pytest.raises(ConfigError, match="learns from samples without labels"):
        prepared(("noisy_student", "dataset=digits", "dataset.labelled=null"))
