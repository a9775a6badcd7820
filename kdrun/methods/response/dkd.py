"""Decoupled knowledge distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Terms
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


def decoupled(teacher: Tensor, student: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The two parts of the KL divergence (Zhao et al. 2022, equation 6), each times the squared temperature.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        labels: [B].
        temperature: softens both.

    Returns:
        The target part (the label against all the rest) and the non-target part (the rest among themselves). At
        temperature 1, KL = target + (1 - p_teacher(label)) * non-target for each sample.
    """
    wanted, given = (F.log_softmax(logits / temperature, dim=1) for logits in (teacher.detach(), student))
    own = F.one_hot(labels, wanted.shape[1]).bool()
    rest = wanted.shape[1] - 1

    def split(logs: Tensor) -> tuple[Tensor, Tensor]:
        others = logs[~own].view(-1, rest)
        total = torch.logsumexp(others, dim=1)  # never the log of a sum of softmaxes: that is -inf for a sure answer
        return torch.stack([logs[own], total], dim=1), others - total[:, None]

    (wanted_pair, wanted_rest), (given_pair, given_rest) = split(wanted), split(given)
    target, others = (F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
                      for mine, theirs in ((given_pair, wanted_pair), (given_rest, wanted_rest)))
    return temperature**2 * target, temperature**2 * others


class DKD(ScaledWeights):
    """Weigh what the teacher says of the label and of the other classes apart (Zhao et al. 2022, equation 7).

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        alpha: of the target part.
        beta: of the non-target part.
        reference: for how many classes `beta` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        warmup_epochs: both parts grow linearly over these first epochs, from 1/warmup_epochs in the first one; a
            shorter training than this never reaches their full weight.
    """

    knowledge = "response"
    plain_logits = ""
    source = "Zhao, Cui, Song, Qiu, Liang: Decoupled knowledge distillation. CVPR 2022"
    survey_scheme = ""
    rows = ()
    scaled = ("beta",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, alpha: NonNegative, beta: NonNegative,
                 reference: AtLeastOne | None, scaling: Scaling, warmup_epochs: Epochs) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.temperature, self.ce_weight, self.alpha, self.beta = temperature, ce_weight, alpha, beta
        self.warmup_epochs = warmup_epochs

    def setup(self, networks: Networks, data: object) -> None:
        """Count the classes."""
        self.rescale(networks.student.shapes.logits[0])

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the two parts."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        target, others = decoupled(teacher.logits, student.logits, batch.labels, self.temperature)
        grown = min((batch.epoch + 1) / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "tckd": grown * self.alpha * target, "nckd": grown * self.scale * self.beta * others}
