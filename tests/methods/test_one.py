"""On-the-fly native ensemble: its numbers, its branches and what they share."""

import math

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.evaluation import metrics
from kdrun.methods.losses import kd, ramp
from kdrun.methods.online.one import Gate, gated
from kdrun.training.loop import distill
from kdrun.training.players import own_parameters
from tests.toy import prepared, rows_of, state, toy_experiment, toy_run


def ready(*words):
    run = toy_run("one", "online", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def test_ramp():
    assert ramp(0, 80) == pytest.approx(0.006738, abs=1e-6)
    assert ramp(40, 80) == pytest.approx(0.286505, abs=1e-6)
    assert ramp(80, 80) == ramp(200, 80) == ramp(0, 0) == 1


def test_gated_ensemble_of_alike_branches_is_the_branch():
    one = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
    shares = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]], dtype=torch.float64)
    ensemble = gated(shares, torch.stack([one] * 3))
    assert torch.allclose(ensemble, one, atol=1e-12)
    assert float(kd(ensemble, one, 3.0)) == pytest.approx(0, abs=1e-12)
    other = gated(torch.tensor([[0.25, 0.75]], dtype=torch.float64),
                  torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]], dtype=torch.float64))
    assert other.tolist() == [[1.0, 6.0]]


def test_gate_never_closes_and_sums_to_one():
    gate = Gate(4, 3)
    shares = gate(10 * torch.randn(16, 4, 2, 2, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(shares.sum(dim=1), torch.ones(16))
    assert float(shares.detach().min()) > 0


def test_terms_at_the_start():
    run, batch = ready()
    terms = run.method.loss(run.networks, batch)
    assert set(terms) == {"ce", "ce branches", "ensemble", "kd"}
    ensemble = run.method.together(run.networks)(batch).logits
    by_hand = sum(kd(ensemble, answer.logits, 3.0).item() for answer in run.method.answers(run.networks, batch))
    assert terms["kd"].item() == pytest.approx(math.exp(-5) * by_hand, rel=1e-5)


def test_only_the_labels_reach_the_gate():
    run, batch = ready("method.ramp_share=0")
    gate = own_parameters([run.method.gate])
    terms = run.method.loss(run.networks, batch)
    assert all(grad is None for grad in torch.autograd.grad(terms["kd"], gate, retain_graph=True, allow_unused=True))
    assert any(bool(grad.any()) for grad in torch.autograd.grad(terms["ensemble"], gate))


def test_branches_share_the_first_stages_and_differ_in_the_last():
    run, batch = ready()
    student = run.networks.student.network
    for branch in run.method.branches:
        assert branch.network.stem is student.stem
        assert [own is theirs for own, theirs in zip(branch.network.stages, student.stages, strict=True)] == [True, True, False]
        assert metrics.size(branch) == metrics.size(run.networks.student)
        assert not torch.equal(branch(batch).logits, run.networks.student(batch).logits)
    whole, shared = metrics.size(run.method.together(run.networks)).parameters, sum(
        weight.numel() for part in (student.stem, *student.stages[:2]) for weight in part.parameters())
    own = metrics.size(run.networks.student).parameters - shared
    assert whole == shared + 3 * own + metrics.size(run.method.gate).parameters


def test_a_branch_alone_says_what_it_says_in_the_whole():
    run, batch = ready()
    for part in (run.networks.student, run.method):
        part.eval()
    run.networks.student.forget()
    _, *others = run.method.answers(run.networks, batch)
    for branch, own in zip(run.method.branches, others, strict=True):
        assert torch.allclose(branch(batch).logits, own.logits, atol=1e-6)


def test_everything_learns():
    run, _ = ready()
    before = state(run.method)
    distill(run)
    moved = {name: value for name, value in run.method.state_dict().items() if value.is_floating_point()}
    assert all(not torch.equal(value, before[name]) for name, value in moved.items())


def test_branches_and_ensemble_get_rows_and_files(tmp_path):
    rows = rows_of(toy_experiment("one", tmp_path))
    assert list(rows) == ["baseline", "student", "branch 2", "branch 3", "ensemble"]
    assert rows["student"]["parameters"] == rows["baseline"]["parameters"] == rows["branch 2"]["parameters"]
    assert rows["ensemble"]["parameters"] > rows["student"]["parameters"]
    assert rows["ensemble"]["model"] == "cnn with 3 branches"
    assert next(tmp_path.glob("runs/*/ensemble.safetensors"))


def test_too_many_shared_stages_are_refused():
    with pytest.raises(ConfigError, match="has 3 stages, so at most 2 can be shared; got 3"):
        prepared(("one", "method.shared_stages=3"))
