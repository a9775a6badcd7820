"""ZSKT: the divergence and the attention, and that each update moves its own player alone."""

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.feature import at
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run

F64 = torch.float64


def test_mean_times_classes_is_batchmean():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, 5, dtype=F64)
    mean, batchmean = (toy_run("zskt", "offline", f"method.reduction={reduction}").method.divergence(teacher, student).item()
                       for reduction in ("mean", "batchmean"))
    assert 5 * mean == pytest.approx(batchmean, abs=1e-12)
    p, q = teacher.softmax(1), student.softmax(1)
    assert batchmean == pytest.approx(float((p * (p / q).log()).sum() / 6), abs=1e-12)


def test_gradients_of_the_divergence_reach_both_sides_and_those_of_the_attention_one():
    method = toy_run("zskt", "offline").method
    sides = [tensor([values], dtype=F64, requires_grad=True) for values in ([1.0, 0.0], [0.0, 2.0])]
    method.divergence(*sides).backward()
    assert all(float(side.grad.abs().sum()) > 0 for side in sides)
    maps = [torch.rand(2, 1, 2, 2, dtype=F64, requires_grad=True) for _ in range(2)]
    at(*maps, power=2).backward()
    assert maps[0].grad is None


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
