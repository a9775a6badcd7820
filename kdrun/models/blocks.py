"""A network seen block by block instead of stage by stage."""

from torch import Tensor, nn
from torch.nn.functional import relu

from kdrun.models.output import ModelOutput
from kdrun.models.staged import Chain, StagedNet

__all__ = ["Blockwise"]


class Blockwise(nn.Module):
    """A network that shows the map at the end of every block; it is the other one, with the same weights.

    A normalisation behind the last block of a stage (a wide ResNet's) belongs to that block.

    Args:
        network: what it shows.

    Attributes:
        counts: how many blocks each stage has.

    Raises:
        ValueError: the network does not tell its blocks apart.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, StagedNet):
            raise ValueError(f"{type(network).__name__} does not tell the blocks of its stages apart; take one of kdrun's own "
                             "convolutional classifiers (kdrun list networks)")
        self.network = network
        self.counts = [len(blocks(part)) for part in network.stages]

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]; the stages of the output are the blocks of all stages."""
        maps = stem = self.network.stem(pictures)
        posts: list[Tensor] = []
        pres: list[Tensor] = []
        for part in self.network.stages:
            before = maps  # as the next block sees it: activated, or not
            for activated, block in blocks(part):
                pres.append(block(relu(before) if activated else before))
                before = pres[-1]
            maps = relu(before)
            posts += [relu(pre) for pre in pres[len(posts):-1]] + [maps]
        embedding = maps.mean(dim=(2, 3))
        return ModelOutput(self.network.head(embedding), embedding, tuple(posts), tuple(pres), stem)


def blocks(stage: nn.Module) -> list[tuple[bool, nn.Module]]:
    """What a stage does one after the other, and whether what comes in is activated before."""
    if isinstance(stage, Chain):
        return [(number > 0, block) for number, block in enumerate(stage.blocks)]
    steps: list[tuple[bool, nn.Module]] = []
    for child in stage if isinstance(stage, nn.Sequential) else [stage]:
        if isinstance(child, nn.BatchNorm2d) and steps:
            activated, before = steps.pop()
            steps.append((activated, nn.Sequential(before, child)))
        else:
            steps += blocks(child) if isinstance(child, Chain) else [(False, child)]
    return steps
