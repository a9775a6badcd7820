"""Wide residual networks."""

from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Layers, Proportion
from kdrun.models.convolutions import convolution
from kdrun.models.staged import FirstWeights, ResidualBlock, StagedNet, initialise

__all__ = ["WideResNet"]


class PreactBlock(ResidualBlock):
    """Normalise, activate, convolve, twice; the sum with the shortcut is neither normalised nor activated.

    Args:
        before: channels that come in.
        after: channels that go out.
        stride: of the first convolution.
        dropout: between the convolutions.
        activated: whether what comes in is normalised and activated already, as at the start of stages 2 and 3.
        conv: what the convolutions are, a kind of `kdrun.models.convolutions`.
    """

    def __init__(self, before: int, after: int, stride: int, dropout: float, activated: bool, conv: str = "full") -> None:
        super().__init__()
        self.opening = nn.Identity() if activated else nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(inplace=True))
        self.convolutions = nn.Sequential(
            convolution(conv, before, after, stride), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
            nn.Dropout(dropout), convolution(conv, after, after, 1))
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None

    def opened(self, maps: Tensor) -> Tensor:
        """The map, normalised and activated."""
        return self.opening(maps)

    def branch(self, opened: Tensor) -> Tensor:
        """From there to the raw residual sum."""
        return self.convolutions(opened)

    def skip(self, maps: Tensor, opened: Tensor) -> Tensor:
        """The map as it came, or the shortcut where its shape changes."""
        return maps if self.shortcut is None else self.shortcut(opened)


class WideResNet(StagedNet):
    """A wide residual network (Zagoruyko and Komodakis, Wide residual networks, BMVC 2016).

    The normalisation and activation that open stages 2 and 3, and the last ones, are counted as the end of the stage
    before: same network, same parameters, and every stage ends in an activation as in the other networks. (Some
    toolkits distill the raw residual sums instead.)

    Args:
        depth: 6n+4: 16, 22, 28, 40, ...
        width: the widening factor.
        dropout: inside the blocks.
        classes: how many classes.
        channels: of the pictures.
        conv: what the 3x3 convolutions of the blocks are, a kind of `kdrun.models.convolutions`.

    Raises:
        ValueError: the depth is not 6n+4, or there is no such kind of convolution.
    """

    def __init__(self, *, depth: Layers, width: AtLeastOne, dropout: Proportion, classes: int, channels: int,
                 conv: str = "full") -> None:
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n+4 (10, 16, 22, 28, 40, ...), got {depth}")
        stages: list[nn.Module] = []
        before = 16
        for number, after in enumerate((16 * width, 32 * width, 64 * width)):
            first = PreactBlock(before, after, 1 if number == 0 else 2, dropout, activated=number > 0, conv=conv)
            others = [PreactBlock(after, after, 1, dropout, activated=False, conv=conv) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *others, nn.BatchNorm2d(after)))
            before = after
        super().__init__(nn.Conv2d(channels, 16, 3, 1, 1, bias=False), stages, before, classes,
                         FirstWeights.HE_ZERO_BIAS)
        initialise(self, self.first_weights)
