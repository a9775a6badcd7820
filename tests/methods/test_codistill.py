"""Codistillation: its numbers, its stale copies, and its own batches."""

import math

import pytest
import torch

from kdrun.methods.losses.response import consensus
from kdrun.training.loop import distill
from tests.toy import state, toy_run

ZERO = torch.zeros(1, 2, dtype=torch.float64)


def test_consensus_is_soft_cross_entropy_with_the_mean_probability():
    sure = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    assert float(consensus([sure], ZERO)) == pytest.approx(math.log(2), abs=1e-12)
    probability = 1 / (1 + math.exp(-2))
    own = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    log_first = -math.log(1 + math.exp(-1))
    wanted = -(0.5 * (probability + 0.5) * log_first + 0.5 * (1.5 - probability) * (log_first - 1))
    assert float(consensus([sure, ZERO], own)) == pytest.approx(wanted, abs=1e-12)


def test_before_burn_in_ends_each_learns_alone():
    whole = ("method.reads=orders",)
    alone, together = toy_run("vanilla", "offline"), toy_run("codistill", "online", "method.burn_in=1", *whole)
    distill(alone)
    distill(together)
    wanted, got = state(alone.networks.student), state(together.networks.student)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    later = toy_run("codistill", "online", "method.burn_in=0", *whole)
    distill(later)
    assert any(not torch.equal(wanted[name], value) for name, value in later.networks.student.state_dict().items())


def test_burn_in_ends_on_its_step():
    run = toy_run("codistill", "online", "method.burn_in=0.5")  # 2 epochs of 3 steps: 3 of them
    next(iter(run.method.phases(run)))
    heard = ["consensus" in terms for epoch in range(2) for batch in run.stream.epoch(epoch, 2)
             for player, terms in run.method.step(run.networks, batch) if player == "student"]
    assert heard == [False] * 3 + [True] * 3


def test_copies_are_stale_until_they_are_renewed():
    run = toy_run("codistill", "online", "method.refresh_steps=2")
    next(iter(run.method.phases(run)))
    weight, ages = next(run.networks.peers[0].parameters()), []
    for batch in run.stream.epoch(0, 1):
        list(run.method.step(run.networks, batch))
        ages.append(float((weight - next(run.method.stale[1].parameters())).flatten()[0].detach()))
        with torch.no_grad():
            weight.add_(1.0)
    assert ages == pytest.approx([0, 1, 0], abs=1e-5)


def test_each_has_an_order_of_its_own():
    run = toy_run("codistill", "online", "method.peers=2", "method.reads=orders")
    next(iter(run.method.phases(run)))
    batches = list(run.stream.epoch(0, 1))
    for name in ("peer 2", "peer 3"):
        role = next(peer for peer in run.networks.peers if peer.name == name)
        own = [run.method.seen_by(role, batch) for batch in batches]
        rows = torch.cat([batch.index for batch in own])
        assert len(rows.unique()) == len(rows)
        assert not torch.equal(rows, torch.cat([batch.index for batch in batches]))
        assert all(torch.equal(batch.labels, run.stream.labels[batch.index]) for batch in own)
    assert run.method.seen_by(run.networks.student, batches[0]) is batches[0]


def test_shards_are_of_one_network_each_and_read_as_often_as_there_are_networks():
    run = toy_run("codistill", "online", "method.reads=shards", "recipe.batch_size=8")
    next(iter(run.method.phases(run)))
    own: dict[int, list[int]] = {0: [], 1: []}
    for batch in run.stream.epoch(0, 1):
        for number, role in enumerate((run.networks.student, *run.networks.peers)):
            seen = run.method.seen_by(role, batch, number)
            assert torch.equal(seen.labels, run.stream.labels[seen.index])
            own[number] += seen.index.tolist()
    assert set(own[0]) | set(own[1]) == set(range(48))
    assert not set(own[0]) & set(own[1])
    assert all(rows.count(row) == 2 for rows in own.values() for row in rows)  # 6 steps of 8, of 24 samples


def test_too_few_samples_to_be_dealt_out_are_refused():
    run = toy_run("codistill", "online", "method.reads=orders", "method.peers=3")
    run.method.reads = "shards"
    with pytest.raises(ValueError, match="48 samples are no batch of 16 for each of 4 networks"):
        next(iter(run.method.phases(run)))
