"""MobileNets in their CIFAR form."""

from torch import Tensor, nn
from torch.nn.functional import relu

from kdrun.config.constraints import AtLeastOne, Layers, Positive
from kdrun.models.staged import Chain, FirstWeights, StagedNet, initialise

__all__ = ["MobileNet", "MobileNetV2"]


def normalised(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, but for its stride, and its normalisation."""
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(after))


class Separable(nn.Module):
    """A convolution of each channel alone, then one across channels; ends before its activation."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.depthwise, self.pointwise = normalised(before, before, 3, stride, before), normalised(before, after, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """From a post-activation map to a pre-activation map."""
        return self.pointwise(relu(self.depthwise(maps), inplace=True))


class MobileNet(StagedNet):
    """MobileNet (Howard et al., MobileNets: efficient convolutional neural networks for mobile vision applications,
    arXiv 1704.04861, 2017) for 32x32 pictures: a stem that does not halve, then stages 2 to 5 halved at their start.

    Args:
        stem: channels of the first convolution.
        blocks: separable convolutions of each stage.
        widths: channels of each stage.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, stem: AtLeastOne, blocks: list[Layers], widths: list[AtLeastOne], classes: int,
                 channels: int) -> None:
        if len(blocks) != len(widths):
            raise ValueError(f"blocks has {len(blocks)} stages, widths {len(widths)}")
        stages: list[nn.Module] = []
        before = stem
        for number, (count, after) in enumerate(zip(blocks, widths, strict=True)):
            first = Separable(before, after, 2 if number else 1)
            stages.append(Chain([first, *(Separable(after, after, 1) for _ in range(count - 1))]))
            before = after
        opening = nn.Sequential(*normalised(channels, stem, 3), nn.ReLU(inplace=True))
        super().__init__(opening, stages, before, classes)
        initialise(self)


class InvertedResidual(nn.Module):
    """Widen, convolve each channel alone, narrow without an activation; a shortcut where the shape stays.

    Args:
        before: channels that come in.
        after: channels that go out.
        stride: of the middle convolution.
        expansion: how many times wider the middle is.
        widened: whether what comes in is widened and activated already, as at the start of a stage.
    """

    def __init__(self, before: int, after: int, stride: int, expansion: int, widened: bool = False) -> None:
        super().__init__()
        middle = before * expansion
        self.opening = nn.Identity() if widened else nn.Sequential(*normalised(before, middle, 1), nn.ReLU(inplace=True))
        self.rest = nn.Sequential(*normalised(middle, middle, 3, stride, middle), nn.ReLU(inplace=True),
                                  *normalised(middle, after, 1))
        self.stays = stride == 1 and before == after

    def forward(self, maps: Tensor) -> Tensor:
        """From a map to the linear map of a bottleneck."""
        narrow = self.rest(self.opening(maps))
        return narrow + maps if self.stays else narrow


# Table 2 of the paper, a stage each: (expansion, channels, blocks); each stage is halved at its start, the first by the stem
STAGES = (((1, 16, 1), (6, 24, 2)), ((6, 32, 3),), ((6, 64, 4), (6, 96, 3)), ((6, 160, 3), (6, 320, 1)))


class MobileNetV2(StagedNet):
    """MobileNetV2 (Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, CVPR 2018), in the form that
    distillation papers train on 32x32 pictures (Jin et al. 2019; Tian et al. 2020).

    The stem halves a picture and three stages halve it again, so that the last map of 32x32 pictures is 2x2; plain
    ReLUs. Bottlenecks end without an activation, so a stage ends at the widening that opens the next one, which is
    where the paper taps the network for detection (section 6.2): same network, same parameters, and every stage ends
    in an activation as in the other networks. (Some toolkits distill the linear bottlenecks instead.)

    Args:
        width: factor of all channels but the last 1280, which it only makes more.
        classes: how many classes.
        channels: of the pictures.
    """

    def __init__(self, *, width: Positive, classes: int, channels: int) -> None:
        def scaled(count: int) -> int:
            return max(1, int(count * width))

        stages: list[nn.Module] = []
        stem = before = scaled(32)
        for number, parts in enumerate(STAGES):
            blocks: list[nn.Module] = []
            for expansion, count, repeats in parts:
                for _ in range(repeats):
                    opens = number > 0 and not blocks
                    blocks.append(InvertedResidual(before, scaled(count), 2 if opens else 1, expansion, widened=opens))
                    before = scaled(count)
            last = number + 1 == len(STAGES)
            after = int(1280 * max(1.0, width)) if last else before * STAGES[number + 1][0][0]
            stages.append(nn.Sequential(*blocks, normalised(before, after, 1)))
        opening = nn.Sequential(*normalised(channels, stem, 3, 2), nn.ReLU(inplace=True))
        super().__init__(opening, stages, after, classes, FirstWeights.HE_SMALL_HEAD)
        initialise(self, self.first_weights)
