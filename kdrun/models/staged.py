"""The form every network of the zoo has: a stem, stages that end before their activation, a pooled head."""

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.cast import Output

__all__ = ["StagedNet", "initialise"]


class StagedNet(nn.Module):
    """A classifier that shows its stages.

    `stages[i]` returns the map at the end of stage i *before* its activation; this class applies the activation out of
    place, so that both are there to distill from. A subclass builds the parts and nothing else.

    Args:
        stem: from pictures [B, C, H, W] to the first map.
        stages: modules, each from a post-activation map to the next pre-activation map.
        width: channels of the last map.
        classes: how many classes.
    """

    def __init__(self, stem: nn.Module, stages: list[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        if not stages:
            raise ValueError("widths must name at least one stage")
        self.stem, self.stages, self.head = stem, nn.ModuleList(stages), nn.Linear(width, classes)

    def forward(self, pictures: Tensor) -> Output:
        """Answer pictures [B, C, H, W]."""
        return self.onward(self.stem(pictures), 0)

    def onward(self, maps: Tensor, stage: int) -> Output:
        """Answer from the map at the end of a stage, counted from 1 and after its activation; 0 is the stem.

        The output's stages are those from there on, and its stem is the given map.
        """
        stem, posts, pres = maps, [], []
        for part in list(self.stages)[stage:]:
            pre = part(maps)
            maps = F.relu(pre)
            pres.append(pre)
            posts.append(maps)
        embedding = maps.mean(dim=(2, 3))
        return Output(self.head(embedding), embedding, tuple(posts), tuple(pres), stem)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1: what a hint at that stage trains."""
        return [self.stem, *self.stages[:stage]]

    def fork(self, stage: int, rest: list[nn.Module] | None = None) -> "StagedNet":
        """A network that shares everything up to the end of a stage (not a copy: the same weights).

        Args:
            stage: the last that is shared, counted from 1; 0 shares the stem alone.
            rest: its own stages, from there on to maps as wide as this network's last; None for copies of this
                network's, with new first weights. Its head is new in any case.
        """
        own = nn.ModuleList(copy.deepcopy(list(self.stages)[stage:]) if rest is None else rest)
        head = copy.deepcopy(self.head)
        for module in (*own.modules(), head):
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        initialise(own)
        twin = StagedNet(self.stem, [*list(self.stages)[:stage], *own], head.in_features, head.out_features)
        twin.head = head
        return twin


def initialise(network: nn.Module) -> None:
    """He's initialisation of convolutions (fan out, for ReLU); normalisation starts as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Chain(nn.Module):
    """Blocks one after the other with an activation between them, none after the last."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, maps: Tensor) -> Tensor:
        """The last block's map, before its activation."""
        for number, block in enumerate(self.blocks):
            maps = block(F.relu(maps) if number else maps)
        return maps
