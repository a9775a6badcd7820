"""Supervision transfer: its numbers, who moves in which phase, and that no label is read in the first."""

import copy

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.cross_modal.supervision_transfer import distance
from kdrun.training.loop import distill
from tests.toy import prepared, toy_run

F64 = torch.float64


def test_summed_over_a_sample_and_averaged_over_the_batch():
    teacher, student = tensor([[1, 2], [0, 0]], dtype=F64).view(2, 2, 1, 1), torch.zeros(2, 2, 1, 1, dtype=F64)
    assert float(distance(teacher, student)) == pytest.approx((1 + 4) / 2, abs=1e-9)


def test_the_teacher_gets_no_gradient():
    teacher, student = torch.ones(1, 2, 1, 1, requires_grad=True), torch.zeros(1, 2, 1, 1, requires_grad=True)
    distance(teacher, student).backward()
    assert teacher.grad is None
    assert student.grad.flatten().tolist() == [-2, -2]


def test_a_twin_that_sees_the_same_has_nothing_to_learn():
    run = toy_run("supervision_transfer", "offline", "dataset=digits", "student.widths=[6,8,12]")
    run.networks.student.network.load_state_dict(run.networks.teacher.network.state_dict())
    run.method.setup(run.networks, run.data)
    run.networks.student.eval()
    (batch, *_) = run.stream.epoch(0, 1)
    assert float(run.method.transfer(run.networks, batch)["transfer"].detach()) == 0


def test_first_the_layers_below_without_labels_then_all(monkeypatch):
    run = toy_run("supervision_transfer", "offline", "method.student_stage=2", "method.teacher_stage=2")
    phases = run.method.phases(run)
    first = next(phases)
    assert not first.evaluate
    trained = {id(weight) for module in first.train for weight in module.parameters()}
    student = run.networks.student.network
    assert all(id(weight) in trained for weight in student.stages[:2].parameters())
    assert not any(id(weight) in trained for weight in [*student.stages[2].parameters(), *student.head.parameters()])
    (batch, *_) = run.stream.epoch(0, 1)
    batch.y = None
    first.loss(run.networks, batch)  # would fail where a label is read
    second = next(phases)
    assert second.train is None
    assert run.method.regressor is None


def test_the_student_is_taught_by_the_other_modality():
    """Another view for the teacher alone changes what the student learns in the first phase."""
    ends = []
    for sees in ("picture", "edges"):
        run = toy_run("supervision_transfer", "offline", f"dataset.teacher_sees={sees}")
        first = copy.deepcopy(run.networks.student.state_dict())
        distill(run)
        ends.append((first, run.networks.student.state_dict()))
    (start, one), (again, other) = ends
    assert all(torch.equal(start[name], again[name]) for name in start)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_stage_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"method.teacher_stage is 9, but the teacher has 3 stages"):
        prepared(("supervision_transfer", "method.teacher_stage=9"))
