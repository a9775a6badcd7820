"""Switched teachers: who is drawn, and what that amounts to."""

from collections import Counter

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.multi_teacher.mt_avg import AveragedTeachers
from kdrun.methods.multi_teacher.mt_switch import SwitchedTeachers
from kdrun.methods.response.kd import KD
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import toy_run


def switched(strategy):
    method = SwitchedTeachers(strategy=strategy, temperature=4.0, ce_weight=0.1, kd_weight=0.9)
    method.random = torch.Generator().manual_seed(3)
    return method


@pytest.fixture
def networks(factory):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT, TINY_TEACHER))
    networks = Networks(nets.student(), [frozen(teacher) for teacher in nets.untrained_teachers()])
    networks.student.double().eval()
    for teacher in networks.teachers:
        teacher.double()
    return networks


@pytest.fixture
def batch(data):
    torch.manual_seed(0)
    return Batch(torch.randn(6, *data.shape, dtype=torch.float64), torch.arange(6) % 4)


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


def pull(terms, networks):
    slopes = torch.autograd.grad(sum(terms.values()), list(networks.student.parameters()))
    return torch.cat([slope.flatten() for slope in slopes])


def test_every_teacher_is_drawn_as_often():
    method, networks = switched("switch"), Networks(None, [0, 1, 2])
    counts = Counter(method.drawn(networks) for _ in range(3000))
    assert sum((counts[teacher] - 1000) ** 2 / 1000 for teacher in range(3)) < 13.8  # chi-square, 2 degrees, 0.1 %


def test_in_turn_each_teacher_has_as_many_batches_and_the_first_one_changes():
    method, networks = switched("round_robin"), Networks(None, [0, 1, 2])
    turns = [[method.due(networks, Batch(None, epoch=epoch, step=step)) for step in range(6)] for epoch in (0, 1)]
    assert turns == [[0, 1, 2, 0, 1, 2], [1, 2, 0, 1, 2, 0]]


def test_the_mean_over_teachers_pulls_as_the_averaged_loss(networks, batch):
    method = switched("switch")
    mean = torch.stack([pull(method.taught(networks, teacher, batch, again=True), networks)
                        for teacher in networks.teachers]).mean(0)
    whole = AveragedTeachers(mean="loss", temperature=4.0, ce_weight=0.1, kd_weight=0.9)
    networks.student.forget()
    assert torch.allclose(mean, pull(whole.loss(networks, batch), networks), atol=1e-10)


def test_one_teacher_is_hintons_method(networks, batch):
    networks.teachers = networks.teachers[:1]
    kd = KD(temperature=4.0, ce_weight=0.1, kd_weight=0.9, form="zhu").loss(networks, batch)
    for strategy in ("switch", "round_robin", "augment"):
        ((player, terms),) = switched(strategy).step(networks, batch)
        assert player == "student"
        assert values(terms) == values(kd)


def test_augment_updates_once_for_each_teacher_by_what_the_student_says_then(networks, batch):
    answers = []
    for _, terms in switched("augment").step(networks, batch):
        answers.append(float(terms["ce"].detach()))
        with torch.no_grad():  # the update
            for weight in networks.student.parameters():
                weight.mul_(0.9)
        networks.student.moved()
    assert len(set(answers)) == 3


def test_one_teacher_is_hintons_method_to_the_last_byte():
    ends = []
    for key, *more in (("kd",), ("mt_switch", "teachers=[cnn]", "method.strategy=switch"), ("mt_avg", "teachers=[cnn]",
                       "method.ce_weight=0.1", "method.kd_weight=0.9", "method.mean=loss")):
        run = toy_run(key, "offline", *(more or ["teachers=[cnn]"]))
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(ends[0][name], end[name]) for end in ends[1:] for name in end)
