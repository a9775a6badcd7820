"""Similarity-preserving distillation."""

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.relation import sp
from kdrun.models.roles import Networks


class SP(Method):
    """Keep the pattern of which samples of a batch are alike, at the last stage (Tung and Mori 2019, equation 4).

    Maps may differ in channels and size.

    Args:
        weight: of the squared difference of the similarities, averaged over all pairs.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("relation",)
    source = "Tung, Mori: Similarity-preserving knowledge distillation. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 5", "Gou section 6.4")

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.weight, self.ce_weight = weight, ce_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and similarities."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "sp": self.weight * sp(teacher.stages[-1], student.stages[-1])}
