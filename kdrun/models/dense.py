"""Networks for dense prediction that stand on a network with stages: they score its maps and enlarge the scores."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne
from kdrun.models.output import ModelOutput
from kdrun.models.staged import StagedNet

__all__ = ["FCN", "CenterNet"]


class BackboneNetwork(nn.Module):
    """A network that reads the stages of another, whose classifier is taken off.

    Args:
        backbone: with stages of its own.
        shape: (channels, height, width) of the pictures.

    Raises:
        ValueError: the backbone does not tell its stages apart.
    """

    def __init__(self, backbone: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        if not isinstance(backbone, StagedNet):
            raise ValueError(f"backbone: got {type(backbone).__name__}, wanted a network of kdrun's own with stages (ResNet, "
                             "CNN, ...)")
        self.backbone = backbone
        backbone.head = nn.Identity()  # type: ignore[assignment]
        training = backbone.training
        backbone.eval()
        answer = backbone(pictures_like(backbone, shape))
        backbone.train(training)
        self.maps = [(maps.shape[1], maps.shape[2]) for maps in answer.stages]  # channels and height of each stage

    def until(self, stage: int) -> list[nn.Module]:
        """The parts of the backbone that lead to the end of a stage, counted from 1."""
        assert isinstance(self.backbone, StagedNet)
        return self.backbone.until(stage)


def pictures_like(network: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """One empty picture on a network's device."""
    return next(network.parameters()).new_zeros(1, *shape)


class FCN(BackboneNetwork):
    """A fully convolutional network (Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation,
    CVPR 2015): a score of each class at each place of the last stages, enlarged bilinearly and added up.

    Args:
        backbone: a network with stages, without its classifier.
        scored: how many stages are scored, the last ones; 1 is the paper's FCN-32s, 3 its FCN-8s.
        classes: outputs of each pixel.
        shape: (channels, height, width) of the pictures.

    Raises:
        ValueError: the backbone does not tell its stages apart, or has fewer than are to be scored.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def __init__(self, *, backbone: nn.Module, scored: AtLeastOne, classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__(backbone, shape)
        if scored > len(self.maps):
            raise ValueError(f"scored: the backbone has {len(self.maps)} stages, got {scored}")
        self.scores = nn.ModuleList(nn.Conv2d(channels, classes, 1) for channels, _ in self.maps[-scored:])

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W] with logits [B, K, H, W]; stages and embedding are the backbone's."""
        answer = self.backbone(pictures)
        total: Tensor | None = None
        for score, maps in zip(reversed(self.scores), reversed(answer.stages), strict=False):
            own = score(maps)
            total = own if total is None else own + enlarged(total, own)
        assert total is not None
        return answer.replace(logits=enlarged(total, pictures))


class CenterNet(BackboneNetwork):
    """Heatmaps of centres, with further numbers at each cell (Zhou, Wang and Krähenbühl, Objects as points, 2019).

    The maps of the backbone's last stages are brought to `width` channels and added up from the last one to the one of the
    wanted stride (Lin et al., Feature pyramid networks for object detection, CVPR 2017); each head is a 3x3 convolution,
    an activation and a 1x1 convolution.

    Args:
        backbone: a network with stages, without its classifier.
        width: channels of the maps that the heads read, and of the heads.
        classes: heatmaps.
        shape: (channels, height, width) of the pictures.
        heatmap_stride: pixels a cell.
        further_heads: how many numbers each further head answers at a cell, by its name.
        heat_bias: what the heatmaps start from.

    Raises:
        ValueError: the backbone does not tell its stages apart, or has none of that stride.
    """

    tasks: ClassVar[tuple[str, ...]] = ("landmarks", "detection")

    def __init__(self, *, backbone: nn.Module, width: AtLeastOne, classes: int, shape: tuple[int, int, int],
                 heatmap_stride: int, further_heads: dict[str, int], heat_bias: float) -> None:
        super().__init__(backbone, shape)
        height = -(-shape[1] // heatmap_stride)
        fitting = [number for number, (_, rows) in enumerate(self.maps) if rows == height]
        if not fitting:
            strides = ", ".join(f"{shape[1] / rows:g}" for _, rows in self.maps)
            raise ValueError(f"backbone: its stages have strides {strides}, but the task's is {heatmap_stride}; take another "
                             "backbone, or another dataset.stride")
        self.first = fitting[-1]
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for channels, _ in self.maps[self.first:])
        self.norm = nn.BatchNorm2d(width)
        self.heat = head(width, classes, heat_bias)
        self.heads = nn.ModuleDict({name: head(width, count) for name, count in further_heads.items()})

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W] with heatmaps [B, K, h, w]; `heads` has the others, [B, n, h, w]."""
        answer = self.backbone(pictures)
        total: Tensor | None = None
        for lateral, maps in zip(reversed(self.lateral), reversed(answer.stages), strict=False):
            own = lateral(maps)
            total = own if total is None else own + F.interpolate(total, size=own.shape[-2:])
        assert total is not None
        maps = F.relu(self.norm(total))
        return answer.replace(logits=self.heat(maps),
                                   heads={name: own(maps) for name, own in self.heads.items()})


def head(width: int, outputs: int, bias: float = 0.0) -> nn.Sequential:
    """A 3x3 convolution, an activation and a 1x1 convolution that starts from a bias."""
    last = nn.Conv2d(width, outputs, 1)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(inplace=True), last)


def enlarged(maps: Tensor, like: Tensor) -> Tensor:
    """Maps as large as others, bilinearly, corners not aligned."""
    size = like.shape[-2:]
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
