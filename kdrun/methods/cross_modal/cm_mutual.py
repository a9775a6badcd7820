"""Cross-modal distillation to a small ensemble of students."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import Few, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.branches import MeanEnsemble
from kdrun.methods.losses.response import dml
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks


class CrossModalMutual(Mutual):
    """Teach several students of one modality the classes a teacher sees in another, and each other (Thoker and Gall 2019).

    Each student descends the cross-entropy with the class that the teacher finds most probable, and the mean divergence from
    the others' answers, as in mutual learning; there are no labels. The paper finds the teacher's class a better target than
    its softened answers. `ensemble` in the results is the mean of all students' logits.

    An approximation: only the paper's abstract was at hand, so equal weights and a temperature of 1 are ours.

    On the digits (LSTMs of 32 on the path of a pen, taught by wrn_16_2, seed 1 alone) the student has 81.3 %, both together
    82.3 %, one by labels alone 79.3 %; unpaired (`dataset.paired=false`) 6.9 %, as they learn of the teacher alone.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        teacher_weight: of the cross-entropy with the teacher's class.
        mutual_weight: of the divergence from the others.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "one"
    label_term = None
    knowledge = ("response",)
    plain_logits = "takes the teacher's most probable class as a label"
    source = "Thoker, Gall: Cross-modal knowledge distillation for action recognition. ICIP 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 4",)

    def __init__(self, *, peers: Few | list[NetworkName], teacher_weight: NonNegative, mutual_weight: NonNegative) -> None:
        super().__init__(peers=peers)
        self.teacher_weight, self.mutual_weight = teacher_weight, mutual_weight

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the student and of each peer, all by what was said before any of them moved."""
        together = [networks.student, *networks.peers]
        wanted = networks.teacher(batch).logits.detach().argmax(dim=1)
        said = [role(batch).logits.detach() for role in together]
        for number, role in enumerate(together):
            own, others = role(batch).logits, said[:number] + said[number + 1:]
            yield role.name, {"teacher": self.teacher_weight * F.cross_entropy(own, wanted),
                              "mimicry": self.mutual_weight * dml(others, own, temperature=1.0)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, each peer, and all together."""
        return {**super().trained_networks(networks), "ensemble": MeanEnsemble(networks.student, networks.peers)}
