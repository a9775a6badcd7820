"""DAFL: the generator's terms, and that each update moves its own player alone."""

import math

import pytest
import torch
from torch import tensor

from kdrun.methods.data_free.dafl import activation, balance, one_hot
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64


@pytest.mark.parametrize(("logarithm", "wanted"), [("log10", -1.0), ("ln", -2.302585)])
def test_balance_of_ten_classes_alike(logarithm, wanted):
    assert balance(torch.zeros(3, 10, dtype=F64), logarithm).item() == pytest.approx(wanted, abs=1e-6)
    alike = 100 * torch.eye(10, dtype=F64)  # each sample is sure, of another class
    assert balance(alike, logarithm).item() == pytest.approx(wanted, abs=1e-6)


def test_a_class_that_nobody_answers_has_a_finite_gradient():
    logits = tensor([[0.0, -3000.0], [0.0, -3000.0]], dtype=F64, requires_grad=True)
    loss = balance(logits, "ln")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert bool(torch.isfinite(logits.grad).all())


def test_activation_and_certainty():
    assert activation(torch.full((3, 5), 2.0, dtype=F64)).item() == pytest.approx(-2)
    assert activation(torch.full((3, 5), -2.0, dtype=F64)).item() == pytest.approx(-2)
    assert one_hot(tensor([[0.0, math.log(3)]], dtype=F64)).item() == pytest.approx(math.log(4 / 3), abs=1e-6)


def test_one_pass_serves_two_players():
    run = toy_run("dafl", "offline")
    inner, updates = run.method.step, []

    def watched(networks, batch):
        def now():
            return [{name: value for name, value in state(module).items() if "running" not in name and "num" not in name}
                    for module in (run.method.generator, networks.student)]

        for player, terms in inner(networks, batch):
            before = now()
            yield player, terms
            updates.append((player, *(any(not torch.equal(one[name], other[name]) for name in one)
                                    for one, other in zip(before, now(), strict=True))))

    run.method.step = watched
    distill(run)
    assert set(updates) == {("generator", True, False), ("student", False, True)}
