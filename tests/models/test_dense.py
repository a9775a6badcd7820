"""Networks for dense prediction: forms of their answers, and what they refuse."""

import pytest
import torch

from kdrun.models.dense import FCN, CenterNet
from kdrun.models.plain import CNN
from kdrun.models.resnet import ResNet
from kdrun.models.unet import UNet


def resnet() -> ResNet:
    return ResNet(depth=8, stem=4, widths=[4, 6, 8], classes=5, channels=1)


@pytest.mark.parametrize("side", [(8, 8), (13, 10)])  # sizes that cannot be halved evenly too
@pytest.mark.parametrize("kind", ["unet", "fcn"])
def test_every_pixel_has_logits(kind, side):
    shape = (1, *side)
    network = UNet(width=4, levels=3, classes=5, channels=1, shape=shape) if kind == "unet" else FCN(
        backbone=resnet(), scored=3, classes=5, shape=shape)
    output = network(torch.zeros(2, *shape))
    assert output.logits.shape == (2, 5, *side)
    assert all(torch.equal(post, pre.relu()) for post, pre in zip(output.stages, output.preacts, strict=True))
    assert output.embedding.shape == (2, 16 if kind == "unet" else 8)
    output.logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())  # no classifier is left over


def test_the_unet_of_the_measured_sizes():
    """Parameters by hand: width 12 of three levels, 11 classes."""
    network = UNet(width=12, levels=3, classes=11, channels=1, shape=(1, 32, 32))
    assert sum(weight.numel() for weight in network.parameters()) == 66_827
    assert len(network(torch.zeros(1, 1, 32, 32)).stages) == 5
    assert [len(network.until(stage)) for stage in (1, 5)] == [1, 5]


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_centernet_answers_at_the_stride_that_is_asked_for(stride):
    network = CenterNet(backbone=resnet(), width=4, classes=3, shape=(1, 16, 12), heatmap_stride=stride,
                        further_heads={"size": 2}, heat_bias=-2.19)
    output = network(torch.zeros(2, 1, 16, 12))
    assert output.logits.shape == (2, 3, 16 // stride, 12 // stride)
    assert output.heads["size"].shape == (2, 2, 16 // stride, 12 // stride)
    assert torch.sigmoid(output.logits.detach()).mean().item() == pytest.approx(0.1, abs=0.05)
    (output.logits.sum() + output.heads["size"].sum()).backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_backbones_that_do_not_fit_are_refused():
    shape = (1, 16, 16)
    with pytest.raises(ValueError, match=r"backbone: got Linear, wanted"):
        FCN(backbone=torch.nn.Linear(2, 2), scored=1, classes=3, shape=shape)
    with pytest.raises(ValueError, match=r"scored: the backbone has 2 stages, got 3"):
        FCN(backbone=CNN(widths=[4, 4], classes=3, channels=1), scored=3, classes=3, shape=shape)
    with pytest.raises(ValueError, match=r"strides 1, 2, but the task's is 8"):
        CenterNet(backbone=CNN(widths=[4, 4], classes=3, channels=1), width=4, classes=3, shape=shape, heatmap_stride=8,
                  further_heads={}, heat_bias=0.0)
    with pytest.raises(ValueError, match=r"levels: pictures of 4x4 cannot be halved 3 times"):
        UNet(width=4, levels=4, classes=3, channels=1, shape=(1, 4, 4))
