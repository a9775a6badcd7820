"""Distillation of an encoder-decoder's encoder and of its answers."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd, same_size
from kdrun.models.roles import Networks


def encoder_depth(stages: Sequence[torch.Size]) -> int:
    """How many stages [C, H, W] lead down to the smallest map: all of a classifier's, the first half of a U-Net's.

    Example:
        >>> encoder_depth([torch.Size((4, 8, 8)), torch.Size((8, 4, 4)), torch.Size((4, 8, 8))])
        2
    """
    places = [prod(shape[1:]) for shape in stages]
    return len(places) - places[::-1].index(min(places))


class EncoderKD(Method):
    """Match the teacher's softened answers and the maps of its encoder (Wang et al. 2019).

    Made for U-Nets, whose encoder is the way down; of a network that only goes down it is all stages. Every pixel is an
    answer, and rows are averaged, so that weights mean the same on every task.

    An approximation: that labels, softened answers and encoder are matched is all that was found of the paper. Weights and
    temperature, the mean squared difference after a 1x1 convolution where channels differ, and averaging the larger of two
    maps down are choices of this implementation.

    Args:
        temperature: softens both answers.
        kd_weight: of the divergence of the answers.
        map_weight: of the mean squared difference of maps, which is summed over stages.
    """

    needs = ("maps",)
    knowledge = ("feature", "response")
    plain_logits = ""
    source = "Wang, Zhang, Song, Liu, Wang, Feng, Peng, Cai: Segmenting neuronal structure in 3D optical microscope images " \
             "via knowledge distillation with teacher-student network. ISBI 2019"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 2",)

    def __init__(self, *, temperature: Positive, kd_weight: NonNegative, map_weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.kd_weight, self.map_weight = temperature, kd_weight, map_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build an adapter for every stage of the encoder whose channels differ.

        Raises:
            ValueError: the encoders do not pair up.
        """
        own, given = (role.shapes.stages[:encoder_depth(role.shapes.stages)] for role in (networks.student, networks.teacher))
        if len(own) != len(given):
            raise ValueError(f"encoder_kd pairs stages, but the student's encoder has {len(own)} and the teacher's "
                             f"{len(given)}; choose a teacher of as many, like the student's kind with other widths")
        self.adapters = nn.ModuleList([nn.Identity() if before[0] == after[0] else nn.Conv2d(before[0], after[0], 1)
                                       for before, after in zip(own, given, strict=True)]).to(networks.device)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, the softened answers and the encoder's maps."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        apart = [F.mse_loss(*same_size(adapter(own), given.detach()))
                 for adapter, own, given in zip(self.adapters, student.stages, teacher.stages, strict=False)]
        return {"ce": self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature),
                "maps": self.map_weight * torch.stack(apart).sum()}
