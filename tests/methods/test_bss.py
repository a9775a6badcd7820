"""BSS: which samples are attacked, how they walk, and how long they count."""

import pytest
import torch
from torch import nn

from kdrun.methods.adversarial.bss import BSS, base_samples, targets, towards_boundary
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Role
from kdrun.tasks.classification import Classification
from tests.toy import toy_run


class Line(nn.Module):
    """Two classes on a line: logits (x/2, -x/2)."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, pictures):
        x = self.slope * pictures.flatten(1)
        return ModelOutput(torch.cat([x, -x], dim=1), x, (pictures,), (pictures,), pictures)


ONE_PIXEL = Classification((), (1, 1, 1))


def walk(*places: float, steps: int, low: float = -9.0, rate: float = 0.3, overshoot: float = 1e-4) -> list[float]:
    x = torch.tensor(places, dtype=torch.float64).view(-1, 1, 1, 1)
    labels = torch.zeros(len(places), dtype=torch.int64)
    ends = torch.tensor([low, 9.0], dtype=torch.float64).view(2, 1, 1, 1)
    return towards_boundary(Role(Line(), "teacher", ONE_PIXEL), x, labels, 1 - labels, steps=steps, rate=rate,
                            overshoot=overshoot, low=ends[0], high=ends[1]).flatten().tolist()


def test_a_step_towards_the_boundary():
    assert walk(1.0, steps=1) == pytest.approx([1 - 0.3 * 1.0001], abs=1e-9)
    assert walk(1.0, steps=2) == pytest.approx([0.69997 - 0.3 * 0.70007], abs=1e-9)
    # the lead of a sample decides its stride; one beyond the boundary stays
    assert walk(1.0, 2.0, -1.0, steps=1) == pytest.approx([0.69997, 2 - 0.3 * 2.0001, -1.0], abs=1e-9)


def test_stops_once_crossed():
    crossed = 1e-5 - 0.3 * 1.1e-4
    assert crossed < 0
    assert walk(1e-5, steps=1) == pytest.approx([crossed], abs=1e-12)
    assert walk(1e-5, steps=10) == pytest.approx([crossed], abs=1e-12)
    assert walk(1.0, steps=1, rate=3.0, low=-0.5) == pytest.approx([-0.5])  # 1 - 3.0003, held in the pixel's range


def test_a_flat_teacher_moves_nothing():
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    flat = Line()
    nn.init.zeros_(flat.slope)
    zero = torch.zeros(1, dtype=torch.int64)
    moved = towards_boundary(Role(flat, "teacher", ONE_PIXEL), x, zero, zero + 1, steps=3, rate=0.3, overshoot=1e-4,
                             low=-x, high=2 * x)
    assert torch.equal(moved, x)


def test_base_samples():
    labels = torch.tensor([0, 0, 1, 1])
    teacher = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0]])
    student = torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [2.0, 3.0, 0.0]])
    assert sorted(base_samples(teacher, student, labels, 4).tolist()) == [0, 2, 3]  # the teacher is wrong on row 1
    assert base_samples(teacher, student, labels, 1).tolist() == [3]                # the student differs most on row 3
    assert base_samples(teacher, -student, labels, 4).tolist() == []


def test_targets_follow_the_probabilities_and_never_the_top():
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]])).repeat(8000, 1)
    drawn = targets(logits, torch.Generator().manual_seed(1)).bincount(minlength=3)
    assert drawn[0] == 0
    assert drawn[1] / 8000 == pytest.approx(0.75, abs=0.02)
    sure = torch.tensor([[900.0, 1.0, 0.0]]).repeat(50, 1)  # the others' probabilities are zero in floating point
    assert targets(sure, torch.Generator().manual_seed(1)).min() >= 1


def test_weights_over_the_epochs():
    run = toy_run("bss", "offline")
    assert isinstance(run.method, BSS)
    assert run.method.weights(0, 80) == (4.0, 2.0)
    assert run.method.weights(40, 80) == (2.5, pytest.approx(2 / 3))
    assert run.method.weights(60, 80)[1] == 0
    assert run.method.weights(79, 80)[1] == 0


@pytest.mark.parametrize("scheme", ["offline", "online"])
def test_the_attack_leaves_the_teacher_as_it_was(scheme):
    run = toy_run("bss", scheme)
    next(run.method.phases(run))
    teacher, batch = run.networks.teacher, next(iter(run.stream.epoch(0, 1)))
    teacher.train(scheme == "online")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    right = teacher(batch.x).logits.argmax(1)
    if scheme == "online":
        teacher.load_state_dict(before)
    pictures, answers = run.method.attack(teacher, batch.x, right, (right + 1) % 10)
    assert teacher.training == (scheme == "online")
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not pictures.requires_grad
    assert not answers.requires_grad
    assert (pictures >= run.method.low - 1e-6).all()
    assert (pictures <= run.method.high + 1e-6).all()


def test_boundary_samples_are_met_in_training():
    run = toy_run("bss", "offline")
    run.networks.teachers = [run.networks.student]  # so that both are right equally often
    next(run.method.phases(run))
    batch = next(iter(run.stream.epoch(0, 1)))
    batch.y = run.networks.student(batch).logits.argmax(1)
    assert run.method.loss(run.networks, batch)["bss"].item() > 0
    batch.y = run.networks.student(batch).logits.argmin(1)  # nobody is right: nothing to attack
    assert run.method.loss(run.networks, batch)["bss"].item() == 0
