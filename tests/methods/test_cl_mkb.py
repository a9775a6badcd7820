"""Collaborative learning: its triplets, its judge, and that without its base networks learn apart."""

import math

import pytest
import torch

from kdrun.methods.online.cl_mkb import KnowledgeBase, hardest_triplets
from tests.toy import toy_run


def ready(*words):
    run = toy_run("cl_mkb", "online", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def test_triplets_take_the_furthest_of_the_class_and_the_nearest_of_another():
    rows = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1])
    loss = hardest_triplets(rows, labels, 0.5)  # 2 + .5 - 3, 1 + .5 - 2, 2 + .5 - 1; the last has no other of its class
    assert loss.item() == pytest.approx(1.5 / 3)
    loss.backward()
    assert bool(rows.grad.isfinite().all())
    assert hardest_triplets(rows, torch.zeros(4), 0.5).item() == 0
    assert hardest_triplets(rows, torch.arange(4), 0.5).item() == 0


def test_a_judge_that_knows_nothing_is_half_wrong_of_each_kind():
    base = KnowledgeBase([4, 5], width=3)
    torch.nn.init.zeros_(base.judge.weight)
    torch.nn.init.zeros_(base.judge.bias)
    rows, same = torch.randn(6, 3), torch.eye(6, dtype=torch.bool)
    assert base.verification(rows, rows, same).item() == pytest.approx(math.log(2))


def test_without_weights_the_networks_learn_apart():
    run, batch = ready("method.metric_weight=0", "method.verification_weight=0", "method.rebuild_weight=0")
    total = sum(run.method.loss(run.networks, batch).values())
    peer = list(run.networks.peers[0].parameters())
    own = torch.autograd.grad(total, peer, retain_graph=True)
    alone = torch.autograd.grad(run.method.label_loss(run.networks.peers[0](batch), batch), peer, retain_graph=True)
    assert all(torch.allclose(*pair, atol=1e-7) for pair in zip(own, alone, strict=True))


def test_what_one_network_knows_moves_the_other():
    run, batch = ready()
    terms = run.method.loss(run.networks, batch)
    for term in ("metric", "verification"):
        for role in (run.networks.student, run.networks.peers[0]):
            last = list(role.network.stages[-1].parameters())
            assert any(bool(one.any()) for one in torch.autograd.grad(terms[term], last, retain_graph=True))
