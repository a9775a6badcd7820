"""Data-distortion guided self-distillation."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.paired_views import Beside
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.feature import mean_discrepancy
from kdrun.models.roles import Networks

VIEW = "second view"


class DDGSD(Method):
    """Say the same of two distortions of a picture, and see the same in them (Xu and Liu 2019).

    Both views are augmented independently and learn from the labels; each matches the other's softened answer, which is a
    constant there, and the mean embeddings of the batch are drawn together. Each view is a forward pass of its own, so an
    epoch costs twice that of another method.

    Args:
        temperature: softens all answers.
        weight: of both soft terms, which hold the squared temperature.
        embedding_weight: of the discrepancy of mean embeddings.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "labels")
    knowledge = ("response", "feature")
    plain_logits = ""
    source = "Xu, Liu: Data-distortion guided self-distillation for deep neural networks. AAAI 2019"
    survey_scheme = "self"
    survey_tables = ("Gou 5", "Gou 6", "Zhu section III-F")

    def __init__(self, *, temperature: Positive, weight: NonNegative, embedding_weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.weight, self.embedding_weight = temperature, weight, embedding_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, on two views of each sample."""
        yield Phase(data=Beside(run.stream, VIEW))

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Both soft terms of logits [B, K], unweighted."""
        return torch.stack([kd(second, first, self.temperature), kd(first, second, self.temperature)]).sum()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels on both views, answers and embeddings."""
        first, second = networks.student(batch), networks.student(batch.views[VIEW])
        return {"ce": self.label_loss(first, batch), "ce second view": self.label_loss(second, batch),
                "kd": self.weight * self.agreement(first.logits, second.logits),
                "mmd": self.embedding_weight * mean_discrepancy(first.embedding, second.embedding)}
