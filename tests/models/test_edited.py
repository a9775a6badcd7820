"""Networks made from another: built again from their description, with the size that they have."""

import pytest
import torch
from torch import nn

from kdrun.models.channels import channels_of
from kdrun.models.description import describe
from kdrun.models.edited import appended, narrowed, replaced, with_channels
from tests.models.test_sizes import parameters
from tests.models.test_zoo import build
from tests.toy import prepared

PICTURES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_network_it_is_made_from_stays_as_it_is():
    network = build("cnn", (1, 8, 8)).requires_grad_(False)
    made = replaced(network, {"stages.0.0": nn.Conv2d(1, 16, 1)})
    assert network.stages[0][0].kernel_size == (3, 3)
    assert all(weight.requires_grad for weight in made.parameters())
    assert torch.equal(made.head.weight, network.head.weight)
    assert made.head.weight is not network.head.weight


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "cnn"])
def test_it_is_built_again_from_its_description(name):
    network = narrowed(narrowed(build(name, (1, 8, 8)), "stages.1", 0.5), "stages.2", 0.5)
    network = appended(network, {"stages.0": nn.Sequential(nn.ReLU(), nn.Identity())}).eval()
    told = describe(network, prepared(("kd",)).data, "student", "made")
    again = type(told).read(told.metadata).build().eval()
    assert not told.strangers()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(PICTURES).logits, network(PICTURES).logits)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "cnn"])
def test_a_narrowed_stage_has_maps_of_the_same_shape_and_fewer_weights(name):
    network = build(name, (1, 8, 8))
    whole = [maps.shape for maps in network(PICTURES).stages]
    for stage in range(len(whole)):
        made = narrowed(network, f"stages.{stage}", 0.5)
        assert [maps.shape for maps in made(PICTURES).stages] == whole
        less = parameters(network.stages[stage]) - parameters(made.stages[stage])
        assert less == parameters(network) - parameters(made)
        assert less > 0 or (name in ("vgg8", "cnn") and stage == 0)  # the 1x1 convolution weighs more than a first one


def test_a_narrowed_stage_of_one_convolution_in_closed_form():
    made = narrowed(build("cnn", (1, 8, 8)), "stages.2", 0.5).stages[2]
    assert parameters(made) == 9 * 32 * 32 + 2 * 32 + 32 * 64 + 64
    assert parameters(narrowed(build("cnn", (1, 8, 8)), "stages.2", 1.0).stages[2]) == 9 * 32 * 64 + 2 * 64


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "cnn"])
def test_without_channels_that_say_nothing_it_answers_the_same(name):
    network = build(name, (1, 8, 8)).eval()
    chosen = {}
    for one in channels_of(network)[1:-1]:  # all but those of the pictures and of the classes
        silent = one.count // 2
        chosen[one] = torch.arange(silent, one.count)
        for layer in (*one.outputs, *one.norms):
            for weight in network.get_submodule(layer).parameters():
                torch.nn.init.zeros_(weight[:silent])
    made = with_channels(network, chosen).eval()
    assert torch.allclose(made(PICTURES).logits, network(PICTURES).logits, atol=1e-5)
    assert parameters(made) < 0.6 * parameters(network)
