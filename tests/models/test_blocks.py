"""A network seen block by block."""

import pytest
import torch

from kdrun.models.blocks import Blockwise
from kdrun.models.densenet import DenseNet
from kdrun.models.plain import CNN
from kdrun.models.resnet import ResNet
from kdrun.models.vgg import VGG
from kdrun.models.wrn import WideResNet


@pytest.mark.parametrize(("network", "counts"), [
    (ResNet(depth=14, stem=4, widths=[4, 6, 8], classes=3, channels=1), [2, 2, 2]),
    (WideResNet(depth=16, width=1, dropout=0.0, classes=3, channels=1), [2, 2, 2]),
    (VGG(blocks=[1, 2, 1, 1, 2], widths=[4, 4, 6, 6, 8], classes=3, channels=1), [1, 3, 2, 2, 2]),  # the halving is a block
    (CNN(widths=[4, 6], classes=3, channels=1), [1, 2]),
    (DenseNet(depth=10, growth=2, dropout=0.0, classes=3, channels=1), [2, 3, 3])])
def test_it_answers_as_the_network_does(network, counts):
    network.eval()
    pictures = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, seen = network(pictures), Blockwise(network)(pictures)
    assert Blockwise(network).counts == counts
    assert torch.equal(whole.logits, seen.logits)
    ends = torch.tensor(counts).cumsum(0) - 1
    assert all(torch.equal(stage, seen.stages[end]) for stage, end in zip(whole.stages, ends.tolist(), strict=True))
    assert all(torch.equal(after, before.relu()) for after, before in zip(seen.stages, seen.preacts, strict=True))


def test_a_network_that_does_not_tell_its_blocks_is_refused():
    with pytest.raises(ValueError, match="Linear does not tell the blocks of its stages apart"):
        Blockwise(torch.nn.Linear(2, 2))
