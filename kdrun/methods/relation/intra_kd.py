"""Inter-region affinity distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.samples import IGNORED
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.dense import region_affinity
from kdrun.models.roles import Networks


def class_regions(mask: Tensor, classes: int, kernel: int) -> Tensor:
    """The surroundings of each class: [B, K, H, W], above 0 within half a kernel of a pixel of it.

    Args:
        mask: the class of each pixel [B, H, W]; 255 is none.
        classes: K.
        kernel: of the average over neighbours, odd.
    """
    own = F.one_hot(mask.where(mask != IGNORED, classes), classes + 1)[..., :classes].permute(0, 3, 1, 2)
    return F.avg_pool2d(own.float(), kernel, 1, kernel // 2)


def grid_regions(maps: Tensor, parts: int) -> Tensor:
    """So many parts of a side, for a map [B, C, H, W]: [B, N, H, W], 1 inside and 0 outside."""
    height, width = maps.shape[-2:]
    rows, columns = min(parts, height), min(parts, width)
    row, column = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    part = row[:, None] * columns + column
    return F.one_hot(part, rows * columns).permute(2, 0, 1).expand(len(maps), -1, -1, -1).to(maps)


class IntRAKD(Method):
    """Match how alike the regions of a scene are: the cosines of their channels' first three moments (Hou et al. 2020).

    In segmentation a region is all of one class with its surroundings; elsewhere, where no place has a class, the map is cut
    into a grid. A region with fewer than two places counts in no pair. The teacher's answers are matched as well.

    An approximation: the authors released no code to train with, and of the paper's settings the two weights are from memory.
    That regions are those above zero after averaging, the kernel, the last map alone, and the grid are choices of this
    implementation.

    Args:
        temperature: softens both answers.
        kd_weight: of the divergence of the answers.
        affinity_weight: of the mean squared difference of the cosines.
        kernel: pixels of a side over which labels are averaged to find a class's surroundings.
        grid: parts of a side, where samples have no masks.
    """

    needs = ("maps",)
    knowledge = ("relation", "response")
    structural = True
    plain_logits = ""
    source = "Hou, Ma, Liu, Hui, Loy: Inter-region affinity distillation for road marking segmentation. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.4", "Zhu section II-D")

    def __init__(self, *, temperature: Positive, kd_weight: NonNegative, affinity_weight: NonNegative, kernel: AtLeastOne,
                 grid: AtLeastOne) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel: an average around a pixel is of an odd number of pixels a side, got {kernel}")
        self.temperature, self.kd_weight, self.affinity_weight = temperature, kd_weight, affinity_weight
        self.kernel, self.grid = kernel, grid

    def regions(self, batch: Batch, maps: Tensor) -> Tensor:
        """Those of a batch, for maps [B, C, H, W] of it."""
        if "mask" not in batch.targets:
            return grid_regions(maps, self.grid)
        return class_regions(batch.targets["mask"], len(self.task.classes), self.kernel)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, the answers and the affinities."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        own, given = student.stages[-1], teacher.stages[-1]
        apart = region_affinity(given, own, self.regions(batch, own))
        return {"ce": self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature),
                "affinity": self.affinity_weight * apart}
