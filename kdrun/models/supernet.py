"""Networks that hold several others, which share their weights: each stage goes one of many ways."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdrun.models.resnet import opening
from kdrun.models.searchable import Family, block
from kdrun.models.staged import Chain, StagedNet, initialise

__all__ = ["SharedStage", "Supernet", "recalibrated"]


class SharedStage(nn.Module):
    """A stage whose blocks are several kinds each; a path is the kinds of its blocks, from the first on.

    A kind of block has the same weights in every path that it is in at its place.

    Args:
        family: of its blocks, see `kdrun.models.searchable`.
        kinds: that the block at each place may be of.
        before: channels that come in.
        after: channels that go out.
        stride: of the first block.

    Attributes:
        path: the way that it goes now.
    """

    def __init__(self, family: Family, kinds: Sequence[Sequence[str]], before: int, after: int, stride: int) -> None:
        super().__init__()
        self.kinds = [list(dict.fromkeys(ones)) for ones in kinds]
        self.blocks = nn.ModuleList(nn.ModuleList(
            block(family, kind, after if place else before, after, 1 if place else stride) for kind in ones)
            for place, ones in enumerate(self.kinds))
        self.path: tuple[str, ...] = tuple(ones[0] for ones in self.kinds)

    def along(self, path: Sequence[str]) -> list[nn.Module]:
        """The blocks of a path."""
        blocks: list[nn.Module] = []
        for held, kinds, kind in zip(self.blocks, self.kinds, path, strict=False):
            assert isinstance(held, nn.ModuleList)
            blocks.append(held[kinds.index(kind)])
        return blocks

    def forward(self, maps: Tensor) -> Tensor:
        """The map at the end of its path, before its activation."""
        return Chain(self.along(self.path))(maps)


class Supernet(StagedNet):
    """A network of shared stages.

    Args:
        family: of its blocks.
        stem: channels of the first convolution.
        widths: channels of the stages.
        strides: of the stages.
        kinds: for each stage those that the block at each place may be of.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, family: Family, stem: int, widths: Sequence[int], strides: Sequence[int],
                 kinds: Sequence[Sequence[Sequence[str]]], classes: int, channels: int) -> None:
        before = [stem, *widths[:-1]]
        stages: list[nn.Module] = [SharedStage(family, ones, *shape) for ones, *shape in zip(kinds, before, widths, strides,
                                                                                          strict=True)]
        super().__init__(opening(channels, stem), stages, widths[-1], classes)
        initialise(self)

    def go(self, blocks: Iterable[Sequence[str]]) -> None:
        """Take these paths from now on."""
        for stage, path in zip(self.stages, blocks, strict=True):
            assert isinstance(stage, SharedStage)
            stage.path = tuple(path)


def recalibrated(parts: Iterable[nn.Module], passes: Callable[[], object]) -> None:
    """Set the statistics of the normalisations of some parts by what they see: those of a shared block are of many paths.

    Args:
        parts: of a network that is in evaluation mode.
        passes: gives the network all that it is to see.
    """
    norms = [module for part in parts for module in part.modules() if isinstance(module, _BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that is seen
        norm.train()
    with torch.no_grad():
        passes()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.eval()
