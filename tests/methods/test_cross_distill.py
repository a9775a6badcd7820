"""Cross distillation: how a layer loses channels, what it learns, and that leaving channels out changes no answer."""

import pytest
import torch
from torch import nn, tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.feature import cross_distillation
from kdrun.methods.structure.cross_distill import layer_input, left, strongest_inputs
from kdrun.training.loop import distill
from tests.toy import state, toy_run

RESNET = ("teacher=resnet8", "teacher.stem=6", "teacher.widths=[6,8,12]", "student=resnet8", "student.stem=4",
          "student.widths=[4,6,8]")


def test_a_layer_of_zeros_is_as_far_off_as_the_teachers_answers_are_large():
    conv, inputs = nn.Conv2d(2, 3, 3, padding=1, bias=False), (torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4))
    wanted = conv(inputs[0]), conv(inputs[1])
    nothing = torch.zeros_like(wanted[0]), torch.zeros_like(wanted[1])
    sizes = [answer.square().mean().item() for answer in wanted]
    assert cross_distillation(wanted, nothing, 0.6).item() == pytest.approx(0.6 * sizes[0] + 0.4 * sizes[1])
    assert cross_distillation(wanted, wanted, 0.6).item() == 0


def test_channels_go_over_the_first_third_and_all_that_are_to_go():
    assert [left(turn, 9, whole=10, target=4) for turn in range(9)] == [10, 8, 6, 4, 4, 4, 4, 4, 4]
    assert left(0, 1, whole=10, target=4) == 4


def test_the_strongest_inputs_stay():
    weight = torch.zeros(2, 3, 1, 1)
    weight[:, 0], weight[0, 2], weight[1, 1] = 1.0, 2.0, 0.5
    assert strongest_inputs(weight, 2).tolist() == [True, False, True]


@pytest.mark.parametrize("words", [(), RESNET])
def test_the_student_answers_as_the_pruned_copy_does(words):
    run = toy_run("cross_distill", "offline", *words, "method.tuning_epochs=0")
    teacher = state(run.networks.teacher)
    distill(run)
    pictures = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        own, whole = (network.eval()(pictures).logits for network in (run.networks.student.network, run.method.whole))
    assert torch.allclose(own, whole, atol=1e-5)
    assert all(torch.equal(value, teacher[name]) for name, value in state(run.networks.teacher).items())
    copied = run.method.whole.state_dict()
    moved = {name for name, value in copied.items() if not torch.equal(value, teacher[f"network.{name}"])}
    assert moved
    assert all(name.endswith("weight") and copied[name].ndim > 1 for name in moved)


def test_each_layer_comes_nearer_by_its_own_weight():
    run = toy_run("cross_distill", "offline", "method.iterations=60", "method.layer_lr=0.003", "method.tuning_epochs=0")
    losses, inner = {}, run.method.step

    def watched(networks, batch):
        for player, terms in inner(networks, batch):
            losses.setdefault(run.method.place, []).append(terms["cross"].item())
            yield player, terms

    run.method.step = watched
    distill(run)
    assert list(losses) == ["stages.1.1.0", "stages.2.1.0", "head"]  # cnn's first convolution is not touched
    assert all(own[-1] < max(own) for own in losses.values()), "what the lost channels cost is learned back in part"


def test_what_a_layer_is_asked_about_is_heard():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten())
    nn.init.constant_(network[0].weight, -1.0)
    nn.init.zeros_(network[0].bias)
    assert layer_input(network, "2", tensor([[[[1.0, -2.0]]]])).tolist() == [[[[0.0, 2.0]]]]


@pytest.mark.parametrize(("words", "told"), [
    (["student=resnet8"], "is not the teacher cnn with fewer channels: their layers differ"),
    (["method.shots=5"], "which is 50 training samples of 10 classes, and there are only 48")])
def test_what_cannot_be_pruned_is_refused(words, told):
    with pytest.raises(ConfigError, match=told):
        toy_run("cross_distill", "offline", *words)
