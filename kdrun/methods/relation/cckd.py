"""Correlation congruence."""

import math
from typing import Literal

import torch
from torch import Tensor

from kdrun.config.constraints import NonNegative, Positive, Turns
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import soften, unit_rows
from kdrun.models.roles import Networks


def correlation(vectors: Tensor, kernel: Literal["gaussian", "bilinear"], gamma: float, order: int) -> Tensor:
    """Correlations [B, B] of the rows of [B, D], each brought to length one (Peng et al. 2019).

    Args:
        vectors: [B, D].
        kernel: `gaussian` by its Taylor series, or `bilinear`, the inner product.
        gamma: of the Gaussian exp(-gamma * squared distance).
        order: the highest power of its series.
    """
    unit = unit_rows(vectors)
    products = unit @ unit.T
    if kernel == "bilinear":
        return products
    total = term = torch.ones_like(products)
    for power in range(1, order + 1):
        term = term * (2 * gamma / power) * products
        total = total + term
    return math.exp(-2 * gamma) * total


class CCKD(Method):
    """Match how the samples of a batch correlate, beside what each one is answered (Peng et al. 2019).

    Embeddings may differ in size. The paper draws batches with several samples of each class; here they are the
    recipe's, so with many classes and small batches there is less to correlate.

    Args:
        kernel: `gaussian` or `bilinear`.
        gamma: of the Gaussian.
        order: of its Taylor series.
        weight: of the squared difference of the correlations, averaged over all pairs.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
        temperature: of them.
    """

    knowledge = "relation"
    source = "Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang: Correlation congruence for knowledge distillation. ICCV 2019"
    survey_scheme = "offline"
    rows = ("Gou 2", "Gou 6")

    def __init__(self, *, kernel: Literal["gaussian", "bilinear"], gamma: Positive, order: Turns,
                 weight: NonNegative, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.kernel, self.gamma, self.order, self.weight = kernel, gamma, order, weight
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature

    def congruence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How differently two embeddings [B, D] correlate, a scalar."""
        wanted, given = (correlation(vectors, self.kernel, self.gamma, self.order)
                         for vectors in (teacher.detach(), student))
        return (given - wanted).square().mean()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, softened answers and correlations."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * soften(teacher.logits, student.logits, self.temperature),
                "cc": self.weight * self.congruence(teacher.embedding, student.embedding)}
