"""Common feature learning."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd, unit_rows
from kdrun.methods.losses.amalgamation import joined_logits
from kdrun.methods.losses.graph import squared_mmd
from kdrun.methods.multi_teacher.amalgamation import common_size, student_samples
from kdrun.models.roles import Networks


class Residual(nn.Module):
    """Two convolutions 3x3 around which the map is added again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the same shape."""
        return F.relu(maps + self.body(maps))


def aligned(channels: int, width: int) -> nn.Sequential:
    """From a network's map to one of the common width."""
    return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU())


class CommonSpace(nn.Module):
    """The space that the last maps of all networks are brought into.

    Args:
        student: channels of the student's map.
        teachers: channels of each teacher's.
        width: channels of the space.
    """

    def __init__(self, student: int, teachers: list[int], width: int) -> None:
        super().__init__()
        self.student = aligned(student, width)
        self.teachers = nn.ModuleList([aligned(channels, width) for channels in teachers])
        self.shared = nn.Sequential(Residual(width), Residual(width))
        self.decoders = nn.ModuleList([nn.Sequential(aligned(width, width), nn.Conv2d(width, channels, 1))
                                       for channels in teachers])

    def forward(self, student: Tensor, teachers: list[Tensor], deviations: list[float]) -> tuple[Tensor, Tensor]:
        """How differently the student's and each teacher's samples lie there, and how far the rebuilt maps are: two scalars."""
        own = self.shared(self.student(student))
        others = [self.shared(align(maps)) for align, maps in zip(self.teachers, teachers, strict=True)]
        variances = [deviation**2 for deviation in deviations]
        apart = [squared_mmd(unit_rows(own.flatten(1)), unit_rows(one.flatten(1)), variances) for one in others]
        rebuilt = [F.mse_loss(decoder(one), maps) for decoder, one, maps in zip(self.decoders, others, teachers, strict=True)]
        return torch.stack(apart).sum(), torch.stack(rebuilt).sum()


class CommonFeatures(Method):
    """Learn the classes of several teachers in a space that the maps of all of them are brought into (Luo et al. 2019).

    The last maps of student and teachers go through a layer each and an extractor that all share; there the student's samples
    have to lie like each teacher's (by maximum mean discrepancy), and the teachers' maps must be rebuilt from it, which keeps
    the space from collapsing. The student matches the teachers' logits side by side; no label is read. As in the code of the
    authors' group, though everything learns by the recipe's optimizer, where that code gives the space one with a weight decay
    of its own. Classes that several teachers know have the mean of their logits.

    Args:
        width: channels of the space; null for a quarter of the student's, at least 16.
        deviations: of the Gaussian kernels, whose sum compares samples of length one.
        temperature: softens the logits.
        kd_weight: of their divergence, which holds the squared temperature.
        common_weight: of the discrepancies.
        rebuilt_weight: of the rebuilt maps against the teachers'.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    partial_teachers = True
    needs = ("rows", "one row a sample", "sample labels", "maps")
    knowledge = ("feature", "response")
    source = "Luo, Wang, Fang, Hu, Tao, Song: Knowledge amalgamation from heterogeneous networks by common feature learning. " \
             "IJCAI 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.2",)
    cautions: ClassVar = {
        "offline": "it reads no label, and was measured below the student alone, which reads them all: taught by two wrn_16_2 "
                   "of five digits each resnet8 ended at 95.2 ± 1.9 %, alone at 98.6 ± 0.1 %; the logits of both side by side "
                   "are right on 93.7 ± 3.0 % (three seeds)"}

    space: CommonSpace

    def __init__(self, *, width: AtLeastOne | None, deviations: list[Positive], temperature: Positive, kd_weight: NonNegative,
                 common_weight: NonNegative, rebuilt_weight: NonNegative) -> None:
        super().__init__()
        if not deviations:
            raise ValueError("deviations: one kernel at least is needed")
        self.width, self.deviations, self.temperature = width, deviations, temperature
        self.kd_weight, self.common_weight, self.rebuilt_weight = kd_weight, common_weight, rebuilt_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the space."""
        student, *teachers = (role.shapes.stages[-1][0] for role in (networks.student, *networks.teachers))
        self.space = CommonSpace(student, teachers, self.width or max(16, student // 4)).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, without labels."""
        self.setup(run.networks, run.data)
        yield Phase(data=student_samples(run))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The teachers' logits, and the common space."""
        student, answers = networks.student(batch), [teacher(batch) for teacher in networks.teachers]
        own, *others = common_size([student.stages[-1], *(one.stages[-1] for one in answers)])
        apart, rebuilt = self.space(own, others, self.deviations)
        wanted = joined_logits([one.logits for one in answers], [role.task.numbers for role in networks.teachers],
                               student.logits.shape[1])
        return {"kd": self.kd_weight * kd(wanted, student.logits, self.temperature),
                "common": self.common_weight * apart, "rebuilt": self.rebuilt_weight * rebuilt}
