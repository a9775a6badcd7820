"""Dense cross-layer mutual distillation: how many divergences there are, whom they move, and what is left of the exits."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.losses import kl
from kdrun.methods.losses.response import dcm
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, state, toy_experiment, toy_run


def ready():
    run = toy_run("dcm", "online")
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def logits(seed, count):
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 5, generator=draws, dtype=torch.float64) for _ in range(count)]


def test_all_pairs_of_two_networks_in_both_directions_and_none_within():
    first, second = logits(1, 3), logits(2, 2)
    by_hand = sum(kl(own, other) + kl(other, own) for own in first for other in second)
    assert dcm(first, second).item() == pytest.approx(by_hand.item(), rel=1e-12)
    assert dcm(first[:1] * 3, first[:1] * 3).item() == pytest.approx(0, abs=1e-12)
    assert dcm(second, first).item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_who_teaches_is_a_constant():
    own, other = (one.requires_grad_() for one in logits(3, 2))
    dcm([own], [other]).backward()
    expected = (own.softmax(1) - other.softmax(1)).detach() / 4
    assert torch.allclose(own.grad, expected, atol=1e-12)


def test_terms_are_of_six_heads_and_every_network_learns():
    run, batch = ready()
    terms = run.method.loss(run.networks, batch)
    assert [leave.name for exits in run.method.exits for leave in exits] == ["exit 1", "exit 2", "peer 2 exit 1",
                                                                            "peer 2 exit 2"]
    hard = [torch.nn.functional.cross_entropy(role(batch).logits, batch.labels) for role in
            (run.networks.peers[0], *run.method.exits[0], *run.method.exits[1])]
    assert terms["ce others"].item() == pytest.approx(sum(hard).item(), rel=1e-4)
    before = state(run.method), state(run.networks.peers[0])
    distill(run)
    for module, old in zip((run.method, run.networks.peers[0]), before, strict=True):
        assert all(not torch.equal(value, old[name]) for name, value in module.state_dict().items()
                   if value.is_floating_point())


def test_exits_leave_the_student_as_large_as_it_is(tmp_path):
    rows = rows_of(toy_experiment("dcm", tmp_path))
    assert list(rows) == ["baseline", "student", "peer 2", "exit 1", "exit 2", "peer 2 exit 1", "peer 2 exit 2"]
    assert rows["student"]["parameters"] == rows["baseline"]["parameters"] == rows["exit 1"]["parameters"]


def test_a_peer_of_one_stage_is_refused():
    with pytest.raises(ConfigError, match="the student has one stage only"):
        prepared(("dcm", "student.widths=[4]"))
