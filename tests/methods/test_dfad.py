"""DFAD: the discrepancy and its reward, and the order of the updates."""

import math

import pytest
import torch
from torch import tensor

from kdrun.methods.data_free.dfad import discrepancy, reward
from kdrun.training.loop import distill
from tests.toy import toy_run

F64 = torch.float64
TEACHER, STUDENT = tensor([[0.0, 0.0]], dtype=F64), tensor([[1.0, 2.0]], dtype=F64)


def test_known_logits():
    assert discrepancy(TEACHER, STUDENT).item() == pytest.approx(1.5)
    assert reward(TEACHER, STUDENT, "neg_mae").item() == pytest.approx(-1.5)
    assert reward(TEACHER, STUDENT, "neg_log_mae").item() == pytest.approx(-math.log(2.5))


@pytest.mark.parametrize("form", ["neg_mae", "neg_log_mae"])
def test_equal_logits_have_no_gradient(form):
    student = STUDENT.clone().requires_grad_()
    for loss in (discrepancy(STUDENT, student), reward(STUDENT, student, form)):
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.abs().sum().item() == 0


def test_the_student_learns_on_new_noise_each_time_and_then_the_generator():
    run = toy_run("dfad", "offline")
    inner, players, seen = run.method.step, [], []

    def watched(networks, batch):
        handle = run.method.generator.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        for player, terms in inner(networks, batch):
            players.append(player)
            yield player, terms
        handle.remove()

    run.method.step = watched
    distill(run)
    turns = run.method.steps * run.recipe.epochs
    assert players == (["student"] * 5 + ["generator"]) * turns
    assert len({float(noise.sum()) for noise in seen}) == len(seen) == 6 * turns
