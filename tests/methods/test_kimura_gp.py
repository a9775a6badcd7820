"""Pseudo pictures: how they start, which way they move, and who moves."""

import copy

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.data_free.kimura_gp import starting
from kdrun.methods.losses import kl
from kdrun.models.gaussian import GaussianProcess
from tests.toy import TINY, rows_of, toy_experiment, toy_run

F64 = torch.float64


def test_divergence_and_its_gradient_to_both():
    teacher, student = (tensor(values, dtype=F64, requires_grad=True) for values in ([[2, 0]], [[0, 0]]))
    apart = kl(teacher, student, train_teacher=True)
    assert apart.item() == pytest.approx(0.327813, abs=1e-6)
    apart.backward()
    assert student.grad[0].tolist() == pytest.approx([-0.380797, 0.380797], abs=1e-6)
    assert teacher.grad[0, 0].item() == pytest.approx(0.880797 * 0.119203 * 2, abs=1e-6)


def test_a_start_without_noise_is_a_labelled_picture_or_lies_between_two():
    labelled = tensor([0.0, 1.0]).view(2, 1, 1, 1)
    copies = starting(labelled, 50, "noise", 0.0, torch.Generator().manual_seed(0))
    between = starting(labelled, 50, "mixture", 0.0, torch.Generator().manual_seed(0))
    assert set(copies.flatten().tolist()) == {0.0, 1.0}
    assert 0 <= between.min() < between.max() <= 1
    assert len(between.unique()) > 10


@pytest.mark.parametrize("direction", ["min", "max"])
def test_pseudo_pictures_move_to_agreement_or_away_from_it(direction):
    run = toy_run("kimura_gp", "offline", f"method.direction={direction}", "method.pseudo=8", "method.pseudo_batch=8")
    next(run.method.phases(run))
    pseudo, student, teacher = run.method.pseudo, run.networks.student, run.networks.teacher
    batch = next(iter(run.stream.epoch(0, 1)))
    student.train()
    updates = run.method.step(run.networks, batch)
    next(updates)
    statistics = copy.deepcopy(student.state_dict())
    player, terms = next(updates)
    assert player == "pseudo"
    terms["divergence"].backward(inputs=[pseudo.pictures])
    assert all(torch.equal(value, statistics[name]) for name, value in student.state_dict().items())
    with torch.no_grad():
        moved = pseudo.pictures - 1e-2 * pseudo.pictures.grad / pseudo.pictures.grad.norm()
        student.eval()
        before, after = (kl(teacher(where, fresh=True).logits, student(where, fresh=True).logits)
                         for where in (pseudo.pictures.detach(), moved))
    assert (after < before) == (direction == "min")


def test_its_own_teacher_is_a_process_on_the_same_few_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.toy.TINY", tuple(word for word in TINY if not word.startswith("teacher")))
    rows = rows_of(toy_experiment("kimura_gp", tmp_path))
    assert rows["teacher"]["model"] == "gp"
    assert rows["student"]["distillation_score"] is None
    assert rows["student"]["accuracy_reduction_pct"] is not None
    run = toy_run("kimura_gp", "offline", "student.widths=[4,6,7]")
    assert isinstance(run.networks.teacher.network, GaussianProcess)


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="there are 4 pseudo pictures"):
        toy_experiment("kimura_gp", tmp_path, "method.pseudo=4")
    monkeypatch.setattr("tests.toy.TINY", tuple(word for word in TINY if not word.startswith("teacher")))
    with pytest.raises(ConfigError, match="teacher tree cannot be differentiated"):
        toy_experiment("kimura_gp", tmp_path, "teacher=tree")
