"""Relational knowledge distillation."""

import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import distances, unit_rows
from kdrun.models.roles import Networks


def distance_structure(vectors: Tensor) -> Tensor:
    """Distances [B, B] between the rows of [B, D], over their mean (Park et al. 2019, equation 6)."""
    apart = distances(vectors)
    positive = apart > 1e-6  # the root of the smallest square that `distances` lets through
    mean = apart.sum() / positive.sum().clamp_min(1)
    return apart / mean.clamp_min(1e-12)


def angle_structure(vectors: Tensor) -> Tensor:
    """Cosines [B, B, B] of the angle at the first of three rows of [B, D] (Park et al. 2019, equation 9)."""
    edges = unit_rows(vectors[None, :, :] - vectors[:, None, :])
    return edges @ edges.transpose(1, 2)


class RKD(Method):
    """Match the distances and angles among the embeddings of a batch (Park et al. 2019, equations 8 and 10).

    Embeddings may differ in size. Means run over all pairs and triples, those of a sample with itself included. The
    paper's figure on CIFAR-100 is of this together with Hinton's term (`method=combine`).

    Args:
        distance_weight: of the distances.
        angle_weight: of the angles.
        normalised: whether embeddings are brought to length one first.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = "relation"
    source = "Park, Kim, Lu, Cho: Relational knowledge distillation. CVPR 2019"
    survey_scheme = "offline"
    rows = ("Gou 2", "Gou 6")

    def __init__(self, *, distance_weight: NonNegative, angle_weight: NonNegative, normalised: bool,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.distance_weight, self.angle_weight, self.ce_weight = distance_weight, angle_weight, ce_weight
        self.normalised = normalised

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How far apart the distances of two embeddings [B, D] are, a scalar."""
        return F.smooth_l1_loss(distance_structure(student), distance_structure(teacher.detach()))

    def angle(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How far apart their angles are, a scalar."""
        return F.smooth_l1_loss(angle_structure(student), angle_structure(teacher.detach()))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, distances and angles."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        pair = teacher.embedding, student.embedding
        wanted, given = map(unit_rows, pair) if self.normalised else pair
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "distance": self.distance_weight * self.distance(wanted, given),
                "angle": self.angle_weight * self.angle(wanted, given)}
