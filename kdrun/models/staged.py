"""The form every network of the zoo has: a stem, stages that end before their activation, a pooled head."""

import torch.nn.functional as F  # noqa: N812
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
        self.stem, self.stages, self.head = stem, nn.ModuleList(stages), nn.Linear(width, classes)

    def forward(self, pictures: Tensor) -> Output:
        """Answer pictures [B, C, H, W]."""
        stem = self.stem(pictures)
        maps, posts, pres = stem, [], []
        for stage in self.stages:
            pre = stage(maps)
            maps = F.relu(pre)
            pres.append(pre)
            posts.append(maps)
        embedding = maps.mean(dim=(2, 3))
        return Output(self.head(embedding), embedding, tuple(posts), tuple(pres), stem)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1: what a hint at that stage trains."""
        return [self.stem, *self.stages[:stage]]


def initialise(network: nn.Module) -> None:
    """He's initialisation of convolutions (fan out, for ReLU); normalisation starts as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Chain(nn.Module):
    """Blocks one after the other with an activation between them, none after the last."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, maps: Tensor) -> Tensor:
        """The last block's map, before its activation."""
        for number, block in enumerate(self.blocks):
            maps = block(F.relu(maps) if number else maps)
        return maps
