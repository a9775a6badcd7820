"""VGG networks in their CIFAR form."""

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from kdrun.config.constraints import AtLeastOne, Layers
from kdrun.models.staged import Chain, FirstWeights, StagedNet, initialise

__all__ = ["VGG"]


class Pool(nn.Module):
    """Halve a map; a map of one pixel stays (small pictures have fewer halvings than stages)."""

    def forward(self, maps: Tensor) -> Tensor:
        """The maximum of each 2x2 square."""
        return max_pool2d(maps, 2) if min(maps.shape[-2:]) > 1 else maps


class VGG(StagedNet):
    """VGG with batch normalisation and one linear layer (Simonyan and Zisserman, Very deep convolutional networks,
    ICLR 2015), in the form for 32x32 pictures: halved after stages 1 to 3, the last two stages at 4x4.

    Args:
        blocks: convolutions of each of the five stages.
        widths: channels of each.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, blocks: list[Layers], widths: list[AtLeastOne], classes: int, channels: int) -> None:
        if len(blocks) != len(widths):
            raise ValueError(f"blocks has {len(blocks)} stages, widths {len(widths)}")
        stages: list[nn.Module] = []
        before = channels
        for number, (count, after) in enumerate(zip(blocks, widths, strict=True)):
            layers = [nn.Sequential(nn.Conv2d(before if layer == 0 else after, after, 3, 1, 1), nn.BatchNorm2d(after))
                      for layer in range(count)]
            chain = Chain(layers)
            stages.append(nn.Sequential(Pool(), chain) if 1 <= number <= 3 else chain)
            before = after
        super().__init__(nn.Identity(), stages, before, classes, FirstWeights.HE_SMALL_HEAD)
        initialise(self, self.first_weights)
