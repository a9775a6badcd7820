"""Online adversarial distillation: its losses, its players, and what each of them moves."""

import pytest
import torch

from kdrun.methods.adversarial.discriminators import MapDiscriminator
from kdrun.methods.losses.adversarial import lsgan_discriminator, lsgan_student
from kdrun.training.loop import distill
from kdrun.training.players import owners
from tests.toy import rows_of, state, toy_experiment, toy_run


def ready(*words):
    run = toy_run("afd_online", "online", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def changed(before, module):
    return any(not torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_losses_of_a_discriminator_that_cannot_tell():
    half = torch.full((4,), 0.5, dtype=torch.float64)
    assert float(lsgan_discriminator(half, half)) == pytest.approx(0.5, abs=1e-12)
    assert float(lsgan_student(half)) == pytest.approx(0.25, abs=1e-12)


def test_losses_of_a_discriminator_that_can():
    one, zero = torch.ones(4), torch.zeros(4)
    assert float(lsgan_discriminator(one, zero)) == 0
    assert float(lsgan_student(zero)) == 1
    assert float(lsgan_student(one)) == 0


def test_scores_are_shares():
    scores = MapDiscriminator(3)(10 * torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(1))).sigmoid()
    assert scores.shape == (8,)
    assert bool(((scores > 0) & (scores < 1)).all())


def test_without_discriminators_it_is_mutual_learning():
    mutual = toy_run("dml", "online", "method.temperature=3")
    plain = toy_run("afd_online", "online", "method.feature_weight=0")
    distill(mutual)
    distill(plain)
    for wanted, got in zip(mutual.networks, plain.networks, strict=True):
        assert not changed(state(wanted), got)


def test_order_of_the_updates_and_who_learns_from_whom():
    run, batch = ready("method.peers=2")
    players = [player for player, _ in run.method.step(run.networks, batch)]
    names = ["student", "peer 2", "peer 3"]
    assert players == names + [f"{name}'s {part}" for name in names for part in ("discriminator", "maps")]


def test_each_player_moves_its_own_modules():
    run, batch = ready("method.peers=[mlp]")
    method, networks = run.method, run.networks
    assert isinstance(method.transfers[0], torch.nn.Sequential)  # a convolutional net and a perceptron differ in width
    for player, terms in method.step(networks, batch):
        modules = dict(method.players(networks))[player]
        weights = [weight for module in modules for weight in module.parameters()]
        gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), weights, allow_unused=True)
        assert any(gradient is not None and bool(gradient.any()) for gradient in gradients), player


def test_discriminators_are_asked_about_maps_after_the_answers_moved():
    run, batch = ready()
    shown = run.networks.student(batch).stages[-1].detach().clone()
    steps, seen = run.method.step(run.networks, batch), []
    run.method.discriminators[1].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    for player, _ in steps:
        if player == "student":
            with torch.no_grad():
                for weight in run.networks.student.parameters():
                    weight.mul_(1.5)
            run.networks.student.moved()
    assert not torch.allclose(seen[0], shown)  # the student's map is what the second discriminator takes for real


def test_rivals_may_own_one_weight_and_others_may_not():
    run, _ = ready()
    weights = list(run.networks.student.parameters())
    params = {"student": weights, "student's maps": weights}
    assert owners(params, run.networks, shares_parameters=True) == {player: [run.networks.student] for player in params}
    with pytest.raises(ValueError, match="own the same parameter"):
        owners(params, run.networks)


def test_discriminators_learn_and_peers_get_rows(tmp_path):
    run, _ = ready()
    before = state(run.method.discriminators)
    distill(run)
    assert changed(before, run.method.discriminators)
    rows = rows_of(toy_experiment("afd_online", tmp_path, "method.peers=[mlp]"))
    assert list(rows) == ["baseline", "student", "peer 2"]
