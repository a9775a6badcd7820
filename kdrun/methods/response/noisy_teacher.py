"""One teacher with noise in the place of several."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.response import logit_mse
from kdrun.models.roles import Networks


def noisy(logits: Tensor, share: float, spread: float, draws: torch.Generator) -> Tensor:
    """Logits [B, K], where a share of the samples has each of its logits times 1 plus a normal number of this spread."""
    chosen = torch.rand(len(logits), 1, generator=draws) < share
    noise = spread * torch.randn(logits.shape, generator=draws) * chosen
    return logits * (1 + noise.to(logits.device, logits.dtype))


class NoisyTeacher(Method):
    """Learn from a teacher whose logits are perturbed anew in every step, as if several taught (Sau and Balasubramanian 2016).

    Each sample is perturbed or not by a coin of its own; a perturbed one has every logit multiplied by 1 plus noise. The
    student regresses the logits and sees no label, or it matches them softened.

    Args:
        share: of the samples that are perturbed.
        spread: of the noise, a standard deviation.
        target: `logits` regresses them (half the squared distance, summed over classes), `softened` matches them as
            Hinton's method does.
        temperature: of `softened`.
        weight: of the teacher.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    knowledge = ("response",)
    plain_logits = "multiplies the teacher's logits by noise"
    source = "Sau, Balasubramanian: Deep model compression: distilling knowledge from noisy teachers. arXiv 1610.09650, 2016"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.2",)

    def __init__(self, *, share: Fraction, spread: NonNegative, target: Literal["logits", "softened"],
                 temperature: Positive, weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.share, self.spread, self.target, self.temperature = share, spread, target, temperature
        self.weight, self.ce_weight = weight, ce_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the perturbed teacher."""
        student = networks.student(batch)
        teacher = noisy(networks.teacher(batch).logits.detach(), self.share, self.spread, self.random)
        term = logit_mse(teacher, student.logits) if self.target == "logits" else \
            kd(teacher, student.logits, self.temperature)
        return {"ce": self.ce_weight * self.label_loss(student, batch), "teacher": self.weight * term}
