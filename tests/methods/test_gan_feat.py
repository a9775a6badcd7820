"""The discriminator's and the student's losses, and who gets whose gradient."""

import math

import pytest
import torch
from torch import nn

from kdrun.methods.adversarial.discriminators import Discriminator
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64


def test_a_discriminator_that_does_not_know():
    zeros = torch.zeros(5, dtype=F64)
    parts = *gan_discriminator(zeros, zeros), gan_student(zeros)
    assert [part.item() for part in parts] == pytest.approx([math.log(2)] * 3, abs=1e-6)


def test_losses_are_cross_entropies():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, dtype=F64)
    bce = nn.functional.binary_cross_entropy_with_logits
    real, false = gan_discriminator(teacher, student)
    assert real.item() == pytest.approx(bce(teacher, torch.ones_like(teacher)).item(), abs=1e-9)
    assert false.item() == pytest.approx(bce(student, torch.zeros_like(student)).item(), abs=1e-9)
    assert gan_student(student).item() == pytest.approx(bce(student, torch.ones_like(student)).item(), abs=1e-9)


def test_scale_and_offset_give_nobody_away():
    torch.manual_seed(0)
    discriminator, embedding = Discriminator(8, [4], normalise=True).double(), torch.randn(3, 8, dtype=F64)
    assert torch.allclose(discriminator(embedding), discriminator(100 * embedding + 7), atol=1e-3)


def test_discriminator_and_student_take_turns():
    run = toy_run("gan_feat", "offline")
    inner, updates = run.method.step, []

    def watched(networks, batch):
        for player, terms in inner(networks, batch):
            before = state(run.method.discriminator), state(run.method.adapter), state(networks.student)
            if player == "discriminator":
                gradients = torch.autograd.grad(sum(terms.values()), list(networks.student.parameters()), retain_graph=True,
                                                allow_unused=True)
                assert all(gradient is None for gradient in gradients)
            yield player, terms
            after = state(run.method.discriminator), state(run.method.adapter), state(networks.student)
            updates.append((player, *(any(not torch.equal(one[name], other[name]) for name in one)
                                    for one, other in zip(before, after, strict=True))))

    run.method.step = watched
    distill(run)
    assert set(updates) == {("discriminator", True, False, False), ("student", False, True, True)}
    rows = run.method.extra_tables(run)["discriminator"]
    assert [row["epoch"] for row in rows] == list(range(run.recipe.epochs))
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert float(run.method.verdicts[0, 1]) == 2 * 48


def test_without_its_weight_it_is_hintons():
    ends = []
    for words in (("gan_feat", "method.gan_weight=0"), ("kd", "method.ce_weight=1", "method.kd_weight=1")):
        run = toy_run(words[0], "offline", *words[1:])
        distill(run)
        ends.append(state(run.networks.student))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
