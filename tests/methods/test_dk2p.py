"""Dominant kernels in closed form, and who learns in which phase."""

import pytest
import torch
from torch import nn

from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.description import describe
from kdrun.models.factorised import dominant_kernels, parted
from kdrun.training.loop import distill
from tests.toy import state, toy_run


@pytest.mark.parametrize(("count", "weights"), [(1, 4672), (2, 9344)])
def test_weights(count, weights):
    assert sum(part.weight.numel() for part in dominant_kernels(nn.Conv2d(64, 64, 3), count)) == weights


def test_as_many_kernels_as_places_are_the_same_layer():
    torch.manual_seed(0)
    layer, pictures = nn.Conv2d(6, 20, 3, stride=2, padding=1), torch.randn(2, 6, 9, 9)
    kernels, across = parted(layer, 9)
    assert torch.allclose(across(kernels(pictures)), layer(pictures), atol=1e-5)
    assert dominant_kernels(layer, 9) is None  # which saves nothing
    with torch.no_grad():
        apart = [float((across(kernels(pictures)) - layer(pictures)).square().sum()) for kernels, across in
                 (parted(layer, count) for count in (1, 3, 6))]
    assert apart == sorted(apart, reverse=True)


def test_the_probes_of_the_teacher_learn_first_and_then_stay():
    run = toy_run("dk2p", "offline", "method.kernels=1")
    phases = run.method.phases(run)
    assert next(phases).name == "probes"
    assert run.networks.student.model == "cnn of 1 kernels a channel"
    first = state(run.method.teacher_probes)
    batch = next(iter(run.stream.epoch(0, 1)))
    terms = run.method.probe_loss(run.networks, batch)
    terms["probes"].backward()
    assert all(weight.grad is not None for weight in run.method.teacher_probes.parameters())
    next(phases)
    run.networks.student.zero_grad()
    for weight in run.method.teacher_probes.parameters():
        weight.grad = None
    terms = run.method.loss(run.networks, batch)
    theirs, own = (run.method.answers(role(batch), probes) for role, probes in (
        (run.networks.teacher, run.method.teacher_probes), (run.networks.student, run.method.probes)))
    wanted = 0.1 * sum(float(soft_cross_entropy(*pair)) for pair in zip(theirs, own, strict=True))
    assert terms["pre-regression"].item() == pytest.approx(wanted, rel=1e-5)
    terms["pre-regression"].backward()
    assert all(weight.grad is None for weight in run.method.teacher_probes.parameters())
    assert all(torch.equal(value, first[key]) for key, value in run.method.teacher_probes.state_dict().items())


def test_the_student_starts_as_it_is_alone_and_can_be_built_again():
    run = toy_run("dk2p", "offline", "method.start=student", "method.kernels=2", "method.probe_epochs=0")
    distill(run)
    network = run.networks.student.network.eval()
    again = describe(network, run.data, "student", "made").build().eval()
    again.load_state_dict(network.state_dict())
    pictures = torch.randn(3, *run.data.shape)
    assert torch.allclose(again(pictures).logits, network(pictures).logits, atol=1e-5)
