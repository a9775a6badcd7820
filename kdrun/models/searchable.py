"""A network each of whose blocks is chosen on its own."""

from typing import Literal

from torch import nn

from kdrun.config.constraints import AtLeastOne
from kdrun.models.convolutions import convolution
from kdrun.models.resnet import BasicBlock, opening
from kdrun.models.staged import Chain, StagedNet, initialise

__all__ = ["Family", "SearchableNet", "block"]

Family = Literal["residual", "plain"]


def block(family: Family, kind: str, before: int, after: int, stride: int) -> nn.Module:
    """A block of a family, from a post-activation map to a pre-activation map.

    Args:
        family: `residual` is the basic block of a ResNet, `plain` one convolution and its normalisation.
        kind: of its convolutions, one of `kdrun.models.convolutions`: full, full_k5, depthwise, ...
        before: channels that come in.
        after: channels that go out.
        stride: of the whole.

    Raises:
        ValueError: there is no such kind, or it does not divide the channels.
    """
    if family == "residual":
        return BasicBlock(before, after, stride, kind)
    return nn.Sequential(convolution(kind, before, after, stride), nn.BatchNorm2d(after))


class SearchableNet(StagedNet):
    """A network whose family, widths, and number and kind of blocks of each stage are all settings: what searches choose from.

    Args:
        family: what its blocks are, see `block`.
        stem: channels of the first 3x3 convolution.
        widths: channels of the stages.
        strides: of the first block of each stage.
        blocks: of each stage the kinds of its blocks, from the first on: at least one.
        classes: how many classes.
        channels: of the pictures.

    Raises:
        ValueError: widths, strides and blocks are not of as many stages, a stage has no block, or a kind does not fit.
    """

    def __init__(self, *, family: Family, stem: AtLeastOne, widths: list[AtLeastOne], strides: list[AtLeastOne],
                 blocks: list[list[str]], classes: int, channels: int) -> None:
        if not len(widths) == len(strides) == len(blocks):
            raise ValueError(f"widths has {len(widths)} stages, strides {len(strides)}, blocks {len(blocks)}")
        if empty := [number for number, kinds in enumerate(blocks, start=1) if not kinds]:
            raise ValueError(f"blocks: stage {empty[0]} has none; give it the kinds of its blocks, as [full,depthwise_k5]")
        stages: list[nn.Module] = []
        before = stem
        for after, stride, kinds in zip(widths, strides, blocks, strict=True):
            stages.append(Chain([block(family, kind, after if place else before, after, 1 if place else stride)
                                 for place, kind in enumerate(kinds)]))
            before = after
        super().__init__(opening(channels, stem), stages, before, classes)
        initialise(self)
