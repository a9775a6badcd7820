"""Local correlation consistency."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import same_size
from kdrun.methods.losses.layers import lkd
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class Mask(nn.Module):
    """Where a map shows what tells classes apart: from 0 to 1 at each place.

    Args:
        channels: of the map.
        outputs: how many logits the classifier has that the mask is trained through.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
                                  nn.Conv2d(channels, 1, 1), nn.Sigmoid())
        self.classifier = nn.Linear(channels, outputs)

    def forward(self, maps: Tensor) -> tuple[Tensor, ModelOutput]:
        """The mask [B, 1, H, W] of maps [B, C, H, W], and what the classifier says of the masked maps' mean over places."""
        laid = self.mask(maps)
        pooled = (maps * laid).mean(dim=(2, 3))
        return laid, ModelOutput(self.classifier(pooled), pooled)


class LKD(Method):
    """Match how patches of maps are alike, within a sample and across samples, where classes show (Li et al. 2020d).

    Each stage's map is cut into a grid of patches, and three matrices of cosines are matched: among the patches of one sample,
    among those at the same place of all samples, and among all of all samples. A mask, made from the teacher's map, is
    laid over both networks' maps first. It is trained beforehand on the teacher alone, through a classifier of the masked
    map. Channels and sizes of maps may differ.

    An approximation where the paper's settings were not found: the layers of the mask and its classifier, that every stage
    has one, and the weights. The mask multiplies as it is, where the paper cuts it off at a threshold.

    A student that taught itself would learn masks from an untrained network, so `scheme=self` is not offered.

    Args:
        grid: patches along each side; the places, where a map has fewer.
        mask_epochs: of the first phase.
        within_weight: of the mean squared difference of cosines within a sample, summed over stages.
        place_weight: of that at the same place across samples.
        across_weight: of that across samples and places, which takes memory for (batch * grid * grid) squared numbers.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps", "one row a sample", "labels")
    knowledge = ("relation",)
    source = "Li, Wu, Fang, Liao, Wang, Qian: Local correlation consistency for knowledge distillation. ECCV 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou 6",)

    masks: nn.ModuleList

    def __init__(self, *, grid: AtLeastOne, mask_epochs: Epochs, within_weight: NonNegative, place_weight: NonNegative,
                 across_weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.grid, self.mask_epochs, self.ce_weight = grid, mask_epochs, ce_weight
        self.within_weight, self.place_weight, self.across_weight = within_weight, place_weight, across_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a mask for each stage of the teacher.

        Raises:
            ValueError: the stages do not pair up.
        """
        outputs = networks.teacher.shapes.logits[0]
        self.masks = nn.ModuleList(Mask(after[0], outputs) for _, after in networks.paired_stages("local correlation"))
        self.masks.to(networks.device)

    def find(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, from the teacher's masked maps."""
        stages = networks.teacher(batch).stages
        losses = [self.label_loss(mask(maps.detach())[1], batch) for mask, maps in zip(self.masks, stages, strict=True)]
        return {"masks": torch.stack(losses).sum()}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The masks on the teacher, then the student."""
        self.setup(run.networks, run.data)
        yield Phase("masks", loss=self.find, train=[self.masks], epochs=self.mask_epochs, constant_rate=True, evaluate=False)
        self.masks.requires_grad_(False)
        yield Phase()

    def correlation(self, teacher: Tensor, student: Tensor, mask: nn.Module) -> Tensor:
        """The weighted difference of one stage."""
        laid, _ = mask(teacher.detach())
        wanted, given = same_size(teacher.detach(), student)
        laid = F.adaptive_avg_pool2d(laid, (wanted.shape[-2], wanted.shape[-1]))
        within, place, across = lkd(wanted * laid, given * laid, self.grid)
        return self.within_weight * within + self.place_weight * place + self.across_weight * across

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and patches."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        stages = [self.correlation(wanted, given, mask)
                  for wanted, given, mask in zip(teacher.stages, student.stages, self.masks, strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch), "patches": torch.stack(stages).sum()}
