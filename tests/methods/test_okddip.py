"""Diverse peers: attention, targets, and what learns through which term."""

import math

import pytest
import torch

from kdrun.methods.losses import kd
from kdrun.methods.online.okddip import attention, targets
from kdrun.training.loop import distill
from tests.toy import rows_of, state, toy_experiment, toy_run


def ready(*words):
    run = toy_run("okddip", "online", "method.ramp_share=0", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def moved_by(term, *modules):
    weights = [weight for module in modules for weight in module.parameters()]
    gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def test_without_projections_all_are_heeded_alike():
    draws = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 5, generator=draws, dtype=torch.float64)
    nothing = torch.zeros(3, 4, 2, dtype=torch.float64)
    shares = attention(nothing, nothing)
    assert torch.allclose(shares, torch.full((4, 3, 3), 1 / 3, dtype=torch.float64))
    assert torch.allclose(targets(shares, logits), logits.mean(dim=0).expand(3, -1, -1))


def test_attention_by_hand():
    queries = torch.tensor([[[1.0]], [[2.0]]], dtype=torch.float64)  # two peers, one sample
    keys = torch.tensor([[[0.0]], [[math.log(3)]]], dtype=torch.float64)
    shares = attention(queries, keys)
    assert torch.allclose(shares, torch.tensor([[[0.25, 0.75], [0.1, 0.9]]], dtype=torch.float64))
    logits = torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]], dtype=torch.float64)
    wanted = torch.tensor([[[1.0, 6.0]], [[0.4, 7.2]]], dtype=torch.float64)
    assert torch.allclose(targets(shares, logits), wanted)


def test_soft_term_is_hintons_and_its_target_learns():
    target = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    own = torch.zeros(1, 2, dtype=torch.float64)
    assert kd(target, own, 2.0, train_teacher=True).item() == pytest.approx(0.443776, abs=1e-6)
    kd(target, own, 2.0, train_teacher=True).backward()
    assert bool(target.grad.any())


@pytest.mark.parametrize("gradient", ["all", "attention"])
def test_projections_learn_through_the_targets(gradient):
    run, batch = ready(f"method.gradient={gradient}")
    terms = run.method.loss(run.networks, batch)
    assert moved_by(terms["peers"], run.method.query, run.method.key)
    assert not moved_by(terms["ce"], run.method.query, run.method.key)
    head = run.method.branches[0].network.head
    assert moved_by(terms["leader"], head) == (gradient == "all")
    assert moved_by(terms["peers"], head)
    assert not moved_by(terms["peers"], run.networks.student.network.head)  # nobody heeds the student


def test_separate_networks_share_nothing_and_all_learn():
    run = toy_run("okddip", "online", "method.shared_stages=null")
    next(iter(run.method.phases(run)))
    ids = [{id(weight) for weight in role.parameters()} for role in run.networks]
    assert len(ids) == 4
    assert len(set.union(*ids)) == sum(map(len, ids))
    before = [state(role) for role in run.networks]
    distill(run)
    for role, start in zip(run.networks, before, strict=True):
        assert any(not torch.equal(start[name], value) for name, value in role.state_dict().items())


def test_peers_get_rows(tmp_path):
    rows = rows_of(toy_experiment("okddip", tmp_path))
    assert list(rows) == ["baseline", "student", "peer 2", "peer 3", "peer 4"]
    assert rows["student"]["parameters"] == rows["peer 4"]["parameters"] == rows["baseline"]["parameters"]
