"""Residual networks in their CIFAR form."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from kdrun.config.constraints import AtLeastOne, Layers
from kdrun.models.convolutions import convolution
from kdrun.models.staged import Chain, ResidualBlock, StagedNet, initialise

__all__ = ["BasicResNet", "BottleneckResNet", "ResNet"]


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions and a shortcut (1x1 where the shape changes); returns the sum before its activation.

    Args:
        before: channels that come in.
        after: channels that go out.
        stride: of the first convolution.
        conv: what the convolutions are, a kind of `kdrun.models.convolutions`.
    """

    def __init__(self, before: int, after: int, stride: int, conv: str = "full") -> None:
        super().__init__()
        self.first = nn.Sequential(convolution(conv, before, after, stride), nn.BatchNorm2d(after))
        self.second = nn.Sequential(convolution(conv, after, after, 1), nn.BatchNorm2d(after))
        changes = stride != 1 or before != after
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) \
            if changes else nn.Identity()

    def branch(self, opened: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        return self.second(relu(self.first(opened), inplace=True))

    def skip(self, maps: Tensor, opened: Tensor) -> Tensor:
        """The shortcut."""
        return self.shortcut(maps)


class BottleneckBlock(ResidualBlock):
    """Narrow by 1x1, convolve by 3x3 in groups, widen by 1x1, and a shortcut; returns the sum before its activation."""

    def __init__(self, before: int, inner: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.second = nn.Sequential(nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(inner))
        self.third = nn.Sequential(nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after))
        changes = stride != 1 or before != after
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) \
            if changes else nn.Identity()

    def branch(self, opened: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        return self.third(relu(self.second(relu(self.first(opened), inplace=True)), inplace=True))

    def skip(self, maps: Tensor, opened: Tensor) -> Tensor:
        """The shortcut."""
        return self.shortcut(maps)


def opening(channels: int, stem: int) -> nn.Sequential:
    """The stem for small pictures: a 3x3 convolution that does not halve them."""
    return nn.Sequential(nn.Conv2d(channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))


def residual_stages(stem: int, blocks: Sequence[int], widths: Sequence[int],
                    block: Callable[[int, int, int, int], nn.Module]) -> list[nn.Module]:
    """Stages of residual blocks, each but the first halved at its start.

    Args:
        stem: channels that come in.
        blocks: of each stage.
        widths: channels of each.
        block: makes one from its stage, counted from 0, channels before and after, and its stride.

    Raises:
        ValueError: there are not as many blocks as widths.
    """
    if len(blocks) != len(widths):
        raise ValueError(f"blocks has {len(blocks)} stages, widths {len(widths)}")
    stages: list[nn.Module] = []
    before = stem
    for number, (count, after) in enumerate(zip(blocks, widths, strict=True)):
        first = block(number, before, after, 2 if number else 1)
        stages.append(Chain([first, *(block(number, after, after, 1) for _ in range(count - 1))]))
        before = after
    return stages


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
        conv: what the 3x3 convolutions of the blocks are, a kind of `kdrun.models.convolutions`.

    Raises:
        ValueError: the depth is not 6n+2, or there is no such kind of convolution.
    """

    def __init__(self, *, depth: Layers, stem: AtLeastOne, widths: list[AtLeastOne], classes: int,
                 channels: int, conv: str = "full") -> None:
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n+2 (8, 14, 20, ...), got {depth}")
        stages = residual_stages(stem, [blocks] * len(widths), widths,
                                 lambda _, before, after, stride: BasicBlock(before, after, stride, conv))
        super().__init__(opening(channels, stem), stages, [stem, *widths][-1], classes)
        initialise(self)


class BasicResNet(StagedNet):
    """ResNet-18 or 34 with the stem for small pictures (He et al., Deep residual learning for image recognition, CVPR
    2016, table 1, less the first halvings): basic blocks, as many as are asked for.

    Args:
        stem: channels of the first convolution.
        blocks: of each stage.
        widths: channels of each stage.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, stem: AtLeastOne, blocks: list[Layers], widths: list[AtLeastOne], classes: int,
                 channels: int) -> None:
        stages = residual_stages(stem, blocks, widths, lambda _, before, after, stride: BasicBlock(before, after, stride))
        super().__init__(opening(channels, stem), stages, [stem, *widths][-1], classes)
        initialise(self)


class BottleneckResNet(StagedNet):
    """ResNet-50 with the stem for small pictures (He et al. 2016, table 1, less the first halvings), or the ResNeXt of
    CIFAR (Xie et al., Aggregated residual transformations for deep neural networks, CVPR 2017, section 5.3).

    Args:
        stem: channels of the first convolution.
        blocks: of each stage.
        widths: channels of each stage.
        inner: channels within the blocks of each stage; in a ResNeXt groups times the width of one.
        groups: of the 3x3 convolutions: the cardinality of a ResNeXt.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, stem: AtLeastOne, blocks: list[Layers], widths: list[AtLeastOne], inner: list[AtLeastOne],
                 groups: AtLeastOne, classes: int, channels: int) -> None:
        if len(inner) != len(widths):
            raise ValueError(f"inner has {len(inner)} stages, widths {len(widths)}")
        if odd := [width for width in inner if width % groups]:
            raise ValueError(f"inner must be multiples of groups ({groups}), got {odd[0]}")
        stages = residual_stages(stem, blocks, widths, lambda number, before, after, stride: BottleneckBlock(
            before, inner[number], after, stride, groups))
        super().__init__(opening(channels, stem), stages, [stem, *widths][-1], classes)
        initialise(self)
