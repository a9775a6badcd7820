"""Variational information distillation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import same_size
from kdrun.methods.losses.feature import vid
from kdrun.models.roles import Networks

EPSILON = 1e-5  # the least variance


class Guess(nn.Module):
    """What a student's map says of a teacher's: each element's mean, by 1x1 convolutions, each channel's variance.

    Args:
        before: channels of the student's map.
        after: of the teacher's.
        variance: to start from.
    """

    def __init__(self, before: int, after: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.ReLU(),
                                  nn.Conv2d(after, after, 1, bias=False), nn.ReLU(),
                                  nn.Conv2d(after, after, 1, bias=False))
        self.raw = nn.Parameter(torch.full((after,), math.log(math.expm1(variance - EPSILON))))

    @property
    def variance(self) -> Tensor:
        """Of each channel, [C]."""
        return F.softplus(self.raw) + EPSILON

    def forward(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How surprising the teacher's map [B, C, H, W] is, given the student's."""
        wanted, given = same_size(teacher.detach(), student)
        return vid(wanted, self.mean(given), self.variance)


class VID(Method):
    """Keep the student's stages informative about the teacher's, by a bound of mutual information (Ahn et al. 2019).

    The bound is a Gaussian whose mean is regressed from the student's map and whose variance is learned for each
    channel. Networks must have equally many stages; where their maps differ in size the larger is averaged down.

    Args:
        weight: of the sum over stages.
        ce_weight: of the cross-entropy with the labels.
        variance: of each channel, to start from.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    source = "Ahn, Hu, Damianou, Lawrence, Dai: Variational information distillation for knowledge transfer. CVPR 2019"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative, variance: Positive) -> None:
        super().__init__()
        if variance <= EPSILON:
            raise ValueError(f"variance must be above {EPSILON:g}")
        self.weight, self.ce_weight, self.variance = weight, ce_weight, variance

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a guess for every stage.

        Raises:
            ValueError: the stages do not pair up.
        """
        pairs = networks.paired_stages("variational information distillation")
        self.guesses = nn.ModuleList(Guess(before[0], after[0], self.variance)
                                     for before, after in pairs)
        self.guesses.to(networks.device)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the surprise of every stage."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        surprises = [guess(*pair) for guess, *pair in zip(self.guesses, teacher.stages, student.stages, strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch), "vid": self.weight * torch.stack(surprises).sum()}
