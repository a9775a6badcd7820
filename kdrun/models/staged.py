"""The form every network of the zoo has: a stem, stages that end before their activation, a pooled head."""

import copy
from collections.abc import Callable, Sequence
from enum import Enum

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.models.output import ModelOutput

__all__ = ["Chain", "FirstWeights", "ResidualBlock", "StagedNet", "initialise"]


class FirstWeights(Enum):
    """How a network's weights are drawn before it is trained.

    The choices are those of the code that most comparisons on CIFAR-100 run (RepDistiller, of Tian et al. 2020), where
    every architecture has its own. Convolutions by He are N(0, 2 / fan out), their biases 0.
    """

    HE = "convolutions by He, the classifier as PyTorch does"               # ResNets
    HE_ZERO_BIAS = "convolutions by He, the classifier's bias 0"            # wide ResNets
    HE_SMALL_HEAD = "convolutions by He, the classifier N(0, 0.01^2), its bias 0"  # VGG, MobileNetV2
    PYTORCH = "all layers as PyTorch does"                                  # ShuffleNets


class StagedNet(nn.Module):
    """A classifier that shows its stages.

    `stages[i]` returns the map at the end of stage i *before* its activation; this class applies the activation out of
    place, so that both are there to distill from. A subclass builds the parts and nothing else.

    Args:
        stem: from pictures [B, C, H, W] to the first map.
        stages: modules, each from a post-activation map to the next pre-activation map.
        width: channels of the last map.
        classes: how many classes.
        first_weights: how new weights are drawn; subclasses call `initialise(self, self.first_weights)` at their end.
    """

    def __init__(self, stem: nn.Module, stages: list[nn.Module], width: int, classes: int,
                 first_weights: FirstWeights = FirstWeights.HE) -> None:
        super().__init__()
        if not stages:
            raise ValueError("widths must name at least one stage")
        self.first_weights = first_weights
        self.stem, self.stages, self.head = stem, nn.ModuleList(stages), nn.Linear(width, classes)

    def forward(self, pictures: Tensor, change: Callable[[int, Tensor], Tensor] | None = None) -> ModelOutput:
        """Answer pictures [B, C, H, W].

        Args:
            pictures: to classify.
            change: what becomes of the map at the end of a stage, counted from 1 and after its activation, before it goes
                on; None for nothing.
        """
        return self.onward(self.stem(pictures), 0, change)

    def onward(self, maps: Tensor, stage: int, change: Callable[[int, Tensor], Tensor] | None = None) -> ModelOutput:
        """Answer from the map at the end of a stage, counted from 1 and after its activation; 0 is the stem.

        The output's stages are those from there on, and its stem is the given map. For `change` see `forward`.
        """
        stem, posts, pres = maps, [], []
        for number, part in enumerate(list(self.stages)[stage:], start=stage + 1):
            pre = part(maps)
            maps = F.relu(pre) if change is None else change(number, F.relu(pre))
            pres.append(pre)
            posts.append(maps)
        embedding = maps.mean(dim=(2, 3))
        return ModelOutput(self.head(embedding), embedding, tuple(posts), tuple(pres), stem)

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
        initialise(own, FirstWeights.HE if rest else self.first_weights)
        initialise(head, self.first_weights)
        twin = StagedNet(self.stem, [*list(self.stages)[:stage], *own], head.in_features, head.out_features,
                         self.first_weights)
        twin.head = head
        if rest is None and hasattr(self, "built_from"):
            twin.built_from = self.built_from  # it is of the same form
        return twin


def initialise(network: nn.Module, first_weights: FirstWeights = FirstWeights.HE) -> None:
    """Draw the weights of convolutions and linear layers; what PyTorch drew stays where the choice says so.

    Normalisation starts as the identity, as in PyTorch.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and first_weights is not FirstWeights.PYTORCH:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and first_weights in (FirstWeights.HE_ZERO_BIAS, FirstWeights.HE_SMALL_HEAD):
            nn.init.zeros_(module.bias)
            if first_weights is FirstWeights.HE_SMALL_HEAD:
                nn.init.normal_(module.weight, std=0.01)


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


class ResidualBlock(nn.Module):
    """A block that adds a branch to a shortcut; subclasses say what both are."""

    def opened(self, maps: Tensor) -> Tensor:
        """What comes before the two part: nothing."""
        return maps

    def branch(self, opened: Tensor) -> Tensor:
        """What the block adds."""
        raise NotImplementedError

    def skip(self, maps: Tensor, opened: Tensor) -> Tensor:
        """What is left of the block without its branch."""
        raise NotImplementedError

    def forward(self, maps: Tensor) -> Tensor:
        """The sum of both."""
        opened = self.opened(maps)
        return self.branch(opened) + self.skip(maps, opened)
