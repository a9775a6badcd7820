"""Progressive self-knowledge distillation."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import Fraction
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.models.roles import Networks


class PSKD(Method):
    """Soften each label by what the student said of that sample an epoch ago, more and more so (Kim et al. 2021).

    The target is (1 - a) times the label plus a times the last answer (equation 4), where a grows linearly over the epochs
    and ends at `alpha` (equation 5). Last answers, made from another augmentation, are kept for the whole training split
    and count from the second epoch on: a table of as many numbers as samples times classes.

    The loss is written as the cross-entropy with the labels, `ce`, and what the last answers change in it, `past`:
    a times the difference of both cross-entropies, which may be negative.

    Args:
        alpha: the share of the last answer in the last epoch.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("one row a sample", "sample labels")
    knowledge = "response"
    plain_logits = "mixes answers with labels into its targets"
    source = "Kim, Ji, Yoon, Hwang: Self-knowledge distillation with progressive refinement of targets. ICCV 2021"
    survey_scheme = ""
    rows = ()

    answers: Tensor

    def __init__(self, *, alpha: Fraction) -> None:
        super().__init__()
        self.alpha = alpha

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin with the labels as the last answers."""
        labels = F.one_hot(data.train.labels, len(data.classes)).float()
        self.register_buffer("answers", labels.to(networks.device))

    def share(self, epoch: int, epochs: int) -> float:
        """Of the last answer, in an epoch of so many."""
        return self.alpha * (epoch + 1) / epochs

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and last answers; what is said now is kept for the next epoch."""
        student, share = networks.student(batch), self.share(batch.epoch, batch.epochs)
        logs = F.log_softmax(student.logits, dim=1)
        last = self.answers[batch.rows]
        with torch.no_grad():
            self.answers[batch.rows] = logs.exp()
        hard = self.label_loss(student, batch)
        return {"ce": hard, "past": share * (-(last * logs).sum(dim=1).mean() - hard)}
