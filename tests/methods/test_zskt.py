"""ZSKT: the divergence and the attention, and that each update moves its own player alone."""

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.data_free.zskt import divergence, looks
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run

F64 = torch.float64


def test_mean_times_classes_is_batchmean():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, 5, dtype=F64)
    mean, batchmean = (divergence(teacher, student, reduction).item() for reduction in ("mean", "batchmean"))
    assert 5 * mean == pytest.approx(batchmean, abs=1e-12)
    p, q = teacher.softmax(1), student.softmax(1)
    assert batchmean == pytest.approx(float((p * (p / q).log()).sum() / 6), abs=1e-12)
    assert divergence(teacher, teacher, "mean").item() == pytest.approx(0, abs=1e-12)


def test_gradients_reach_both_sides():
    sides = [tensor([values], dtype=F64, requires_grad=True) for values in ([1.0, 0.0], [0.0, 2.0])]
    divergence(*sides, "batchmean").backward()
    assert all(float(side.grad.abs().sum()) > 0 for side in sides)


def test_attention_of_known_maps():
    teacher, student = (tensor(values, dtype=F64).view(1, 1, 1, 2) for values in ([1.0, 0.0], [0.0, 1.0]))
    assert looks([teacher], [student]).item() == pytest.approx(1.0)
    assert looks([teacher, teacher], [student, 3 * teacher]).item() == pytest.approx(1.0)


def test_the_generator_moves_once_and_the_student_several_times():
    run = toy_run("zskt", "offline")
    inner, updates = run.method.step, []

    def watched(networks, batch):
        def weights(module):
            return {name: value for name, value in state(module).items() if "running" not in name and "num" not in name}

        for player, terms in inner(networks, batch):
            before = weights(run.method.generator), weights(networks.student)
            yield player, terms
            after = weights(run.method.generator), weights(networks.student)
            updates.append((player, *(all(torch.equal(one[name], other[name]) for name in one)
                                    for one, other in zip(before, after, strict=True))))

    run.method.step = watched
    distill(run)
    turn = [("generator", False, True)] + [("student", True, False)] * run.method.student_steps
    assert updates == turn * run.method.steps * run.recipe.epochs


def test_means_are_over_updates_not_over_batches():
    run = toy_run("zskt", "offline")
    inner, told = run.method.step, []

    def watched(networks, batch):
        for player, terms in inner(networks, batch):
            if batch.epoch == 0 and player == "student":
                told.append(float(terms["kd"].detach().double()))
            yield player, terms

    run.method.step = watched
    distill(run)
    row = next(row for row in run.history if row[2] == 0 and row[4] == "kd")
    assert len(told) == run.method.steps * run.method.student_steps
    assert row[5] == pytest.approx(sum(told) / len(told), rel=1e-9)


def test_stages_must_pair_up(tmp_path):
    with pytest.raises(ConfigError, match=r"method\.attention_weight pairs stages, but the student has 2 and the teacher 3"):
        toy_experiment("zskt", tmp_path, "student.widths=[4,6]")
    assert toy_run("zskt", "offline", "student.widths=[4,6]", "method.attention_weight=0")
