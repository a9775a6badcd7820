"""Residual networks in their CIFAR form."""

from torch import Tensor, nn
from torch.nn.functional import relu

from kdrun.bounds import AtLeastOne
from kdrun.models.staged import Chain, StagedNet, initialise

__all__ = ["ResNet"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (1x1 where the shape changes); returns the sum before its activation."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        changes = stride != 1 or before != after
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) \
            if changes else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        return self.second(relu(self.first(maps), inplace=True)) + self.shortcut(maps)


class ResNet(StagedNet):
    """A CIFAR ResNet of depth 6n+2 (He et al., Deep residual learning for image recognition, CVPR 2016, section 4.2).

    Three stages of n basic blocks. Shortcuts that change shape are 1x1 convolutions, the form that distillation
    papers compare (about 1 % more parameters than He's padded shortcuts).

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110, ...
        stem: channels of the first convolution.
        widths: channels of the three stages.
        classes: how many classes.
        channels: of the pictures.

    Raises:
        ValueError: the depth is not 6n+2.
    """

    def __init__(self, *, depth: AtLeastOne, stem: AtLeastOne, widths: list[AtLeastOne], classes: int,
                 channels: int) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n+2 (8, 14, 20, ...), got {depth}")
        stages: list[nn.Module] = []
        before = stem
        for number, after in enumerate(widths):
            stride = 1 if number == 0 else 2
            stages.append(Chain([BasicBlock(before, after, stride)]
                                + [BasicBlock(after, after, 1) for _ in range(blocks - 1)]))
            before = after
        first = nn.Sequential(nn.Conv2d(channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
        super().__init__(first, stages, before, classes)
        initialise(self)
