"""Snapshot distillation: its loss in closed form, its cycles, its snapshots."""

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.data.batch import Batch
from kdrun.methods.baseline.vanilla import Vanilla
from kdrun.methods.self_taught.snapshot_kd import SnapshotKD, lopsided
from kdrun.models.roles import Networks
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64


def test_the_gradient():
    teacher, labels = tensor([[2.0, 0.0, -1.0]], dtype=F64), tensor([1])
    student = tensor([[0.3, 0.1, -0.4]], dtype=F64, requires_grad=True)
    value = 4 / 3 * F.cross_entropy(student, labels) + lopsided(teacher, student, 3.0)
    (slope,) = torch.autograd.grad(value, student)
    given = student.detach().softmax(1)
    wanted = 4 / 3 * (given - F.one_hot(labels, 3)) + (given - (teacher / 3).softmax(1))
    assert torch.allclose(slope, wanted, atol=1e-12)


def test_the_best_student_is_softer_than_its_teacher():
    teacher = tensor([[2.0, 0.0, -1.0]], dtype=F64)
    student = (teacher / 3).clone().requires_grad_()
    assert torch.autograd.grad(lopsided(teacher, student, 3.0), student)[0].abs().max() < 1e-12
    same = teacher.clone().requires_grad_()
    assert torch.autograd.grad(lopsided(teacher, same, 3.0), same)[0].abs().max() > 0.1


def test_snapshots_are_taken_at_the_ends_of_cycles_and_the_optimizer_goes_on(monkeypatch):
    run = toy_run("snapshot_kd", "self", "method.cycles=2", "recipe.epochs=4", "recipe.schedule=cosine")
    seen = []
    step, alone = SnapshotKD.loss, SnapshotKD.alone

    def watched(which):
        def watch(self, networks, batch):
            if batch.step == 0:
                (optimizer,) = run.optimizers["cycles"].values()
                seen.append((batch.epoch, [state(teacher) for teacher in networks.teachers], state(networks.student),
                             id(optimizer), len(optimizer.state)))
            return which(self, networks, batch)
        return watch

    monkeypatch.setattr(SnapshotKD, "loss", watched(step))
    monkeypatch.setattr(SnapshotKD, "alone", watched(alone))
    distill(run)
    assert [epoch for epoch, *_ in seen] == [0, 1, 2, 3]
    assert [len(teachers) for _, teachers, *_ in seen] == [0, 0, 1, 1]
    first, second = seen[2], seen[3]
    assert all(torch.equal(value, first[2][name]) for name, value in first[1][0].items())  # the student as it was then
    assert all(torch.equal(value, second[1][0][name]) for name, value in first[1][0].items())  # and it stays
    assert any(not torch.equal(value, second[2][name]) for name, value in first[1][0].items())
    assert len({optimizer for *_, optimizer, _ in seen}) == 1
    assert seen[2][4] > 0  # its momentum too
    assert run.trained == {"cycles": 4}


def test_one_cycle_is_the_labels_alone():
    run = toy_run("snapshot_kd", "self", "method.cycles=1")
    distill(run)
    plain = toy_run("vanilla", "self")
    assert isinstance(plain.method, Vanilla)
    distill(plain)
    wanted, got = plain.networks.student.state_dict(), run.networks.student.state_dict()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_a_cycle_needs_its_snapshot(factory, data):
    method = SnapshotKD(cycles=2, temperature=3.0, ce_weight=1.0, kd_weight=1.0)
    with pytest.raises(ValueError, match="exactly one teacher"):
        method.loss(Networks(factory().student()), Batch(torch.randn(2, *data.shape), torch.tensor([0, 1])))
