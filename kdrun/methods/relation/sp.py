"""Similarity-preserving distillation."""

from torch import Tensor

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import unit_rows
from kdrun.models.roles import Networks


def similarity(maps: Tensor) -> Tensor:
    """Similarities [B, B] of the samples of a map, each row of length one (Tung and Mori 2019, equation 2)."""
    rows = maps.flatten(1)
    return unit_rows(rows @ rows.T)


class SP(Method):
    """Keep the pattern of which samples of a batch are alike, at the last stage (Tung and Mori 2019, equation 4).

    Maps may differ in channels and size.

    Args:
        weight: of the squared difference of the similarities, averaged over all pairs.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = "relation"
    source = "Tung, Mori: Similarity-preserving knowledge distillation. ICCV 2019"
    survey_scheme = "offline"
    rows = ("Gou 2", "Gou 5")

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.weight, self.ce_weight = weight, ce_weight

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How differently two maps [B, ...] relate their samples, a scalar."""
        return (similarity(student) - similarity(teacher.detach())).square().mean()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and similarities."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "sp": self.weight * self.distance(teacher.stages[-1], student.stages[-1])}
