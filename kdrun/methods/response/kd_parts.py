"""Distillation by a part of what the teacher's answer says."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import Bounds, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.partial import class_relations, kept_largest, permuted_rest, smoothed_by, true_class_alone
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks

Part = Literal["smoothing", "confidence", "classes", "largest", "permuted", "full"]


class KDParts(Method):
    """Replace the teacher's softened answer by a part of it, to find what distillation is made of (Tang et al. 2020).

    `smoothing` is label smoothing, with the batch's mean probability of the true class; `confidence` is the probability of
    the true class, of each sample its own, and the rest alike; `classes` is how alike the classes are, the same for all samples
    of a class, from the teacher's classifier; `largest` is the largest probabilities, and the rest alike; `permuted` is the
    answer with the false classes in a random order; `full` is the answer, and then this is Hinton's loss. What each brings,
    `kdrun diagnose parts` says of finished runs.

    An approximation: the paper's abstract names the parts, not how they are cut out.

    Args:
        part: what is left of the answer.
        temperature: softens both answers, before the part is cut out.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
        class_temperature: of the likeness of classes.
        kept: the share of the classes whose probabilities are the largest.
    """

    knowledge = ("response",)
    needs = ("labels",)
    plain_logits = "cuts the teacher's answer into parts"
    source = "Tang, Shivanna, Zhao, Lin, Singh, Chi, Jain: Understanding and improving knowledge distillation. arXiv " \
             "2002.03532, 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 1",)

    def __init__(self, *, part: Part, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 class_temperature: Positive, kept: Annotated[float, Bounds(above=0, below=1)]) -> None:
        super().__init__()
        self.part, self.temperature, self.ce_weight, self.kd_weight = part, temperature, ce_weight, kd_weight
        self.class_temperature, self.kept = class_temperature, kept

    def setup(self, networks: Networks, data: Data) -> None:
        """Find the teacher's classifier, where it counts.

        Raises:
            ValueError: it has none.
        """
        if self.part == "classes":
            networks.teacher.classifier  # noqa: B018 - it raises where there is none

    def target(self, networks: Networks, teacher: ModelOutput, labels: Tensor) -> Tensor:
        """The part of the teacher's answer [M, K] that is left, where that is not all of it."""
        answer = (teacher.logits / self.temperature).softmax(dim=1)
        if self.part == "smoothing":
            return smoothed_by(answer, labels)
        if self.part == "confidence":
            return true_class_alone(answer, labels)
        if self.part == "classes":
            weights = networks.teacher.network.get_submodule(networks.teacher.classifier).weight
            assert isinstance(weights, Tensor)
            return class_relations(weights.detach(), labels, self.class_temperature)
        if self.part == "largest":
            return kept_largest(answer, max(1, round(self.kept * answer.shape[1])))
        return permuted_rest(answer, labels, torch.rand(answer.shape, generator=self.random).to(answer.device))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the part."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        wanted = teacher.logits
        if self.part != "full":
            wanted = self.temperature * self.target(networks, teacher, batch.labels).clamp_min(1e-12).log()
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(wanted, student.logits, self.temperature)}
