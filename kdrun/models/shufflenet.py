"""ShuffleNets in their CIFAR form."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, channel_shuffle, relu

from kdrun.config.constraints import AtLeastOne, Layers
from kdrun.models.mobilenet import normalised
from kdrun.models.staged import Chain, FirstWeights, StagedNet, initialise

__all__ = ["ShuffleNetV1", "ShuffleNetV2"]


def opening(channels: int, stem: int) -> nn.Sequential:
    """The stem for small pictures: a 1x1 convolution that does not halve them."""
    return nn.Sequential(*normalised(channels, stem, 1), nn.ReLU(inplace=True))


class GroupedBlock(nn.Module):
    """Narrow and widen in groups of channels, shuffled between; ends before its activation.

    A block that halves the map puts the averaged input beside what it makes, any other adds the input.

    Args:
        before: channels that come in.
        after: channels that go out.
        stride: 2 halves the map.
        groups: of the 1x1 convolutions.
        narrowing_groups: of the first of them.
    """

    def __init__(self, before: int, after: int, stride: int, groups: int, narrowing_groups: int) -> None:
        super().__init__()
        made = after - before if stride == 2 else after
        middle = made // 4
        self.stride, self.shuffled = stride, narrowing_groups
        self.narrow = normalised(before, middle, 1, groups=narrowing_groups)
        self.depthwise = normalised(middle, middle, 3, stride, middle)
        self.widen = normalised(middle, made, 1, groups=groups)

    def forward(self, maps: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        narrow = channel_shuffle(relu(self.narrow(maps), inplace=True), self.shuffled)
        made = self.widen(relu(self.depthwise(narrow), inplace=True))
        if self.stride == 1:
            return made + maps
        return torch.cat([made, avg_pool2d(maps, 3, stride=2, padding=1)], dim=1)


class ShuffleNetV1(StagedNet):
    """ShuffleNet (Zhang et al., ShuffleNet: an extremely efficient convolutional neural network for mobile devices,
    CVPR 2018), in the form that distillation papers train on 32x32 pictures (Tian et al. 2020): a stem that does not
    halve, and an activation after the depthwise convolutions too, which the paper has not.

    Args:
        stem: channels of the first convolution.
        blocks: of each stage; the first of each halves the map.
        widths: channels of each stage.
        groups: of the 1x1 convolutions.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, stem: AtLeastOne, blocks: list[Layers], widths: list[AtLeastOne], groups: AtLeastOne,
                 classes: int, channels: int) -> None:
        if len(blocks) != len(widths):
            raise ValueError(f"blocks has {len(blocks)} stages, widths {len(widths)}")
        stages: list[nn.Module] = []
        before = stem
        for number, (count, after) in enumerate(zip(blocks, widths, strict=True)):
            if after % (4 * groups) or (after - before) % (4 * groups):
                raise ValueError(f"widths and stem must differ by multiples of 4 times groups ({4 * groups}), got "
                                 f"widths {widths} and stem {stem}")
            first = GroupedBlock(before, after, 2, groups, groups if number else 1)
            stages.append(Chain([first, *(GroupedBlock(after, after, 1, groups, groups) for _ in range(count - 1))]))
            before = after
        super().__init__(opening(channels, stem), stages, before, classes, FirstWeights.PYTORCH)
        initialise(self, self.first_weights)


class HalvingUnit(nn.Module):
    """Two branches, each halving the map, side by side and shuffled; ends before its activation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.left = nn.Sequential(*normalised(before, before, 3, 2, before), *normalised(before, half, 1))
        self.right = nn.Sequential(*normalised(before, half, 1), nn.ReLU(inplace=True),
                                   *normalised(half, half, 3, 2, half), *normalised(half, after - half, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        return channel_shuffle(torch.cat([self.left(maps), self.right(maps)], dim=1), 2)


class SplitUnit(nn.Module):
    """Half of the channels stays as it is, the other is convolved; both side by side and shuffled.

    Ends before its activation, which leaves the half that stayed as it is: it was activated before.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(*normalised(half, half, 1), nn.ReLU(inplace=True),
                                    *normalised(half, half, 3, 1, half), *normalised(half, half, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        stays, goes = maps.chunk(2, dim=1)
        return channel_shuffle(torch.cat([stays, self.branch(goes)], dim=1), 2)


class ShuffleNetV2(StagedNet):
    """ShuffleNetV2 (Ma et al., ShuffleNet V2: practical guidelines for efficient CNN architecture design, ECCV 2018), in
    the form that distillation papers train on 32x32 pictures (Tian et al. 2020): a 1x1 stem that does not halve.

    The 1x1 convolution before the classifier is the end of the last stage.

    Args:
        stem: channels of the first convolution.
        blocks: of each stage; the first of each halves the map.
        widths: channels of each stage, even.
        last: channels before the classifier.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, stem: AtLeastOne, blocks: list[Layers], widths: list[AtLeastOne], last: AtLeastOne,
                 classes: int, channels: int) -> None:
        if len(blocks) != len(widths):
            raise ValueError(f"blocks has {len(blocks)} stages, widths {len(widths)}")
        if odd := [after for after in widths if after % 2]:
            raise ValueError(f"widths must be even, got {odd[0]}")
        stages: list[nn.Module] = []
        before = stem
        for number, (count, after) in enumerate(zip(blocks, widths, strict=True), start=1):
            units = [HalvingUnit(before, after), *(SplitUnit(after) for _ in range(count - 1))]
            stages.append(Chain([*units, normalised(after, last, 1)] if number == len(widths) else units))
            before = after
        super().__init__(opening(channels, stem), stages, last, classes, FirstWeights.PYTORCH)
        initialise(self, self.first_weights)
