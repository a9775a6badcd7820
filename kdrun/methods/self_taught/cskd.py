"""Class-wise self-knowledge distillation."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.paired_views import Beside
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.models.roles import Networks
from kdrun.utils.seeding import generator

VIEW = "partner"


def partners(labels: Tensor, seed: int) -> Callable[[int], Tensor]:
    """From an epoch to a row of the same class for each of the labels [N], any of them as probably, itself included."""
    order, counts = labels.argsort(stable=True), labels.bincount()
    starts = counts.cumsum(0) - counts

    def drawn(epoch: int) -> Tensor:
        shares = torch.rand(len(labels), generator=generator(VIEW, seed, epoch), dtype=torch.float64).to(labels.device)
        return order[starts[labels] + (shares * counts[labels]).long()]

    return drawn


class CSKD(Method):
    """Match what the student itself says of another picture of the same class (Yun et al. 2020, equation 3).

    Each sample comes with a partner of its class, drawn anew in every epoch. What is said of the partner is the target
    and gets no gradient; it is a forward pass of its own in training mode, so that batch statistics see both halves. The
    labels are met on the sample alone: an epoch has no more updates than that of another method.

    Args:
        temperature: softens both answers.
        weight: of the soft term, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("one row a sample", "sample labels")
    knowledge = ("response",)
    plain_logits = ""
    source = "Yun, Park, Lee, Shin: Regularizing class-wise predictions via self-knowledge distillation. CVPR 2020"
    survey_scheme = "self"
    survey_tables = ("Gou 6", "Zhu section III-F")

    def __init__(self, *, temperature: Positive, weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, on samples with partners."""
        yield Phase(data=Beside(run.stream, VIEW, partners(run.data.train.labels.to(run.device), run.seed)))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the partner's answer."""
        student = networks.student(batch)
        with torch.no_grad():
            partner = networks.student(batch.views[VIEW])
        return {"ce": self.label_loss(student, batch),
                "kd": self.weight * kd(partner.logits, student.logits, self.temperature)}
