"""Rocket launching: the hint, what is shared, and whom the hint moves."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.online.rocket import hint
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, toy_experiment, toy_run


def ready(*words):
    run = toy_run("rocket", "online", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def own(role, other):
    theirs = {id(weight) for weight in other.parameters()}
    return [weight for weight in role.parameters() if id(weight) not in theirs]


def test_hint_sums_over_classes():
    booster, light = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    assert 0.03 * float(hint(booster, light)) == pytest.approx(0.12, abs=1e-9)
    assert 0.03 * float(hint(booster.repeat(3, 1), light.repeat(3, 1))) == pytest.approx(0.12, abs=1e-9)


@pytest.mark.parametrize("block", [True, False])
def test_the_gradient_block_keeps_the_hint_from_the_booster(block):
    run, batch = ready(f"method.gradient_block={str(block).lower()}")
    terms = run.method.loss(run.networks, batch)
    alone = own(run.networks.peers[0], run.networks.student)
    gradients = torch.autograd.grad(terms["hint"], alone, allow_unused=True)
    assert all(gradient is None for gradient in gradients) == block


def test_convolutions_are_shared_and_normalisation_is_not():
    run, _ = ready()
    student, booster = run.networks.student.network, run.networks.peers[0].network
    for stage in range(3):
        light, heavy = student.stages[stage].blocks[0], booster.stages[stage].blocks[0]
        assert light.first[0].weight is heavy.first[0].weight
        assert light.second[0].weight is heavy.second[0].weight
        assert light.first[1].weight is not heavy.first[1].weight
    assert student.stem[0].weight is booster.stem[0].weight
    assert student.head.weight is not booster.head.weight
    distill(run)
    student, booster = run.networks.student.network, run.networks.peers[0].network
    assert student.stem[0].weight is booster.stem[0].weight
    light, heavy = student.stages[1].blocks[0], booster.stages[1].blocks[0]
    assert light.first[0].weight is heavy.first[0].weight
    assert not torch.equal(light.first[1].running_mean, heavy.first[1].running_mean)


def test_nothing_or_the_stem_may_be_shared():
    run, _ = ready("method.shared_stages=null")
    assert len(own(run.networks.student, run.networks.peers[0])) == len(list(run.networks.student.parameters()))
    run, _ = ready("method.shared_stages=0")
    assert len(own(run.networks.student, run.networks.peers[0])) == len(list(run.networks.student.parameters())) - 1


def test_booster_gets_a_row(tmp_path):
    rows = rows_of(toy_experiment("rocket", tmp_path))
    assert list(rows) == ["baseline", "student", "booster"]
    assert rows["booster"]["model"] == "resnet14"
    assert rows["booster"]["parameters"] > rows["student"]["parameters"] == rows["baseline"]["parameters"]


@pytest.mark.parametrize(("words", "told"), [
    (("method.booster=cnn",), "no convolution in common"),
    (("method.shared_stages=4",), "method.shared_stages is 4, but"),
])
def test_what_does_not_fit_is_refused(words, told):
    with pytest.raises(ConfigError, match=told):
        prepared(("rocket", *words))
