"""Probabilistic knowledge transfer."""

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.relation import pkt
from kdrun.models.roles import Networks


class PKT(Method):
    """Match the probabilities with which samples of a batch pick each other as neighbours (Passalis and Tefas 2018).

    Follows the authors' code: a sample may pick itself, and the divergence is averaged over all pairs, so it is that of
    the paper's equation 9 divided by the squared batch size.

    Args:
        weight: of the divergence.
        ce_weight: of the cross-entropy with the labels; the authors' student is trained without.
    """

    knowledge = ("relation",)
    source = "Passalis, Tefas: Learning deep representations with probabilistic knowledge transfer. ECCV 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 4")

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.weight, self.ce_weight = weight, ce_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and affinities."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "pkt": self.weight * pkt(teacher.embedding, student.embedding)}
