"""Layer-wise amalgamation."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.amalgamation import joined_logits
from kdrun.methods.multi_teacher.amalgamation import common_size, same_stages, student_samples
from kdrun.models.roles import Networks


class AmalgamBlock(nn.Module):
    """Learns what the maps of several teachers have in common, and what the student's map has to become for it.

    Args:
        student: channels of the student's map.
        teachers: channels of each teacher's.
    """

    def __init__(self, student: int, teachers: list[int]) -> None:
        super().__init__()
        self.channels = teachers
        self.encoder = nn.Conv2d(sum(teachers), student, 1)
        self.decoder = nn.Conv2d(student, sum(teachers), 1)
        self.adaptor = nn.Conv2d(student, student, 1)

    def forward(self, student: Tensor, teachers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """How far the student's map is from the common one, and how far the teachers' from what can be made of it: scalars.

        The common map learns from the latter alone.
        """
        common = self.encoder(torch.cat(teachers, dim=1))
        rebuilt = self.decoder(common).split(self.channels, dim=1)
        apart = F.mse_loss(self.adaptor(student), common.detach())
        return apart, torch.stack([F.mse_loss(*pair) for pair in zip(rebuilt, teachers, strict=True)]).sum()


class Amalgam(Method):
    """Learn the classes of several teachers, stage by stage, from what their maps have in common (Shen et al. 2019, AAAI).

    At each stage the teachers' maps side by side are encoded into one as wide as the student's, which has to suffice to
    rebuild them; the student's map, through an adaptor, has to match it. At the end the student matches the teachers' logits
    side by side. No label is read. The paper learns the common maps first and the student afterwards; here, as in the code of
    the authors' group, everything is learned together, though by the recipe's optimizer, where that code gives the encoders one
    with a weight decay of its own. Classes that several teachers know have the mean of their logits.

    Separately trained teachers need not answer on one scale, and nothing here makes them comparable.

    Args:
        temperature: softens the logits.
        kd_weight: of their divergence, which holds the squared temperature.
        common_weight: of the student's maps against the common ones.
        rebuilt_weight: of the rebuilt maps against the teachers'.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    partial_teachers = True
    needs = ("rows", "one row a sample", "sample labels", "maps")
    knowledge = ("feature", "response")
    source = "Shen, Wang, Song, Sun, Song: Amalgamating knowledge towards comprehensive classification. AAAI 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 1", "Gou section 6.2")
    cautions: ClassVar = {
        "offline": "it reads no label, and was measured below the student alone, which reads them all: taught by two wrn_16_2 "
                   "of five digits each resnet8 ended at 94.9 ± 2.7 %, alone at 98.6 ± 0.1 %; the logits of both side by side "
                   "are right on 93.7 ± 3.0 % (three seeds)"}

    blocks: nn.ModuleList

    def __init__(self, *, temperature: Positive, kd_weight: NonNegative, common_weight: NonNegative,
                 rebuilt_weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.kd_weight = temperature, kd_weight
        self.common_weight, self.rebuilt_weight = common_weight, rebuilt_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a block for each stage.

        Raises:
            ValueError: the networks have not the same number of stages.
        """
        self.blocks = nn.ModuleList([AmalgamBlock(student[0], [one[0] for one in teachers]) for student, *teachers in
                                     same_stages([networks.student, *networks.teachers])]).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, without labels."""
        self.setup(run.networks, run.data)
        yield Phase(data=student_samples(run))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The teachers' logits, and the common maps."""
        student, answers = networks.student(batch), [teacher(batch) for teacher in networks.teachers]
        found = []
        for block, maps, *wanted in zip(self.blocks, student.stages, *(one.stages for one in answers), strict=True):
            own, *others = common_size([maps, *wanted])
            found.append(block(own, others))
        common, rebuilt = (torch.stack(parts).sum() for parts in zip(*found, strict=True))
        wanted_logits = joined_logits([one.logits for one in answers], [role.task.numbers for role in networks.teachers],
                                      student.logits.shape[1])
        return {"kd": self.kd_weight * kd(wanted_logits, student.logits, self.temperature),
                "common": self.common_weight * common, "rebuilt": self.rebuilt_weight * rebuilt}
