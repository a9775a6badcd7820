"""A student with a branch for each teacher."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.branches import MeanEnsemble, ends
from kdrun.methods.losses import kd
from kdrun.methods.losses.feature import map_mse
from kdrun.models.roles import Networks, Role


class BranchForEachTeacher(Method):
    """Split the student's last stage into a branch for each teacher and let all answer together (Asif et al. 2020).

    Each branch learns from the labels, its own teacher's softened answers and its last map; the mean of all branches'
    logits learns from the labels, which couples them. That mean is the paper's prediction and a further product, the
    `ensemble`, as large as all branches; the student alone is the first branch, as large as ever. One teacher may teach
    several branches by being named several times: each is trained from other first weights.

    An approximation: the paper was not at hand beyond its abstract, so where the branches part, the form of each term and
    the weights are ours.

    Args:
        temperature: softens all answers.
        kd_weight: of each branch's soft term, which holds the squared temperature.
        feature_weight: of each branch's mean squared difference from its teacher's last map, by a 1x1 convolution.
        ensemble_weight: of the cross-entropy of the mean logits.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    needs = ("maps",)
    knowledge = ("response", "feature")
    plain_logits = "mixes logits into an ensemble that meets the labels"
    source = "Asif, Tang, Harrer: Ensemble knowledge distillation for learning improved and efficient networks. ECAI 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 4.1", "Gou section 6.2")

    branches: Sequence[Role]

    def __init__(self, *, temperature: Positive, kd_weight: NonNegative, feature_weight: NonNegative,
                 ensemble_weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.kd_weight = temperature, kd_weight
        self.feature_weight, self.ensemble_weight = feature_weight, ensemble_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow a branch for each further teacher, and what brings each branch's map to its teacher's channels."""
        student = networks.student
        stages = student.shapes.stages
        self.shared = len(stages) - 1
        self.branches = nn.ModuleList([student.fork(self.shared, f"branch {number}")  # type: ignore[assignment]
                                       for number in range(2, len(networks.teachers) + 1)])
        self.adapters = nn.ModuleList([nn.Conv2d(stages[-1][0], teacher.shapes.stages[-1][0], 1)
                                       for teacher in networks.teachers]).to(networks.device)

    def together(self, networks: Networks) -> MeanEnsemble:
        """The whole."""
        return MeanEnsemble(networks.student, self.branches, self.shared)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for each branch and their mean, and each branch's own teacher."""
        own = ends(networks.student, self.branches, self.shared, batch)
        taught = [teacher(batch) for teacher in networks.teachers]
        first, *others = (self.label_loss(answer, batch) for answer in own)
        soft = [kd(teacher.logits, answer.logits, self.temperature) for teacher, answer in zip(taught, own, strict=True)]
        maps = [map_mse(teacher.stages[-1], adapter(answer.stages[-1]))
                for adapter, teacher, answer in zip(self.adapters, taught, own, strict=True)]
        mean = own[0].replace(logits=self.together(networks).combined(own))
        further = {"ce branches": torch.stack(others).sum()} if others else {}
        return {"ce": first, **further, "kd": self.kd_weight * torch.stack(soft).sum(),
                "feature": self.feature_weight * torch.stack(maps).sum(),
                "ensemble": self.ensemble_weight * self.label_loss(mean, batch)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, every further branch, and the ensemble."""
        found = {"student": networks.student, **{branch.name: branch for branch in self.branches}}
        return {**found, "ensemble": self.together(networks)} if self.branches else found
