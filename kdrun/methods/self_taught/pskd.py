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
    and count from the second epoch on: a table of as many numbers as samples times classes. Where a sample has an answer
    at every place, the table has one for each of them; a crop or a mirror would move places, so there they are refused.

    The loss is written as the cross-entropy with the labels, `ce`, and what the last answers change in it, `past`:
    a times the difference of both cross-entropies, which may be negative.

    Args:
        alpha: the share of the last answer in the last epoch.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("labels",)
    knowledge = ("response",)
    plain_logits = "mixes answers with labels into its targets"
    source = "Kim, Ji, Yoon, Hwang: Self-knowledge distillation with progressive refinement of targets. ICCV 2021"
    survey_scheme = ""
    survey_tables = ()

    answers: Tensor
    known: Tensor

    def __init__(self, *, alpha: Fraction) -> None:
        super().__init__()
        self.alpha = alpha

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin with no answers, so with the labels in their place.

        Raises:
            ValueError: what places show is moved from epoch to epoch.
        """
        if data.task.dense and (data.settings.crop or data.settings.flip):
            raise ValueError("it remembers the answer at every place, and crops and mirror images move the places; give "
                             "dataset.crop=0 and dataset.flip=false")
        self.places = data.task.places(networks.student.shapes.logits)
        count, device = len(data.train) * self.places, networks.device
        self.register_buffer("answers", torch.zeros(count, data.task.outputs, device=device))
        self.register_buffer("known", torch.zeros(count, dtype=torch.bool, device=device))

    def entries(self, batch: Batch) -> Tensor:
        """Where the table has the rows [M] of a batch."""
        if batch.places is None:
            return batch.rows
        return batch.rows[batch.places // self.places] * self.places + batch.places % self.places

    def share(self, epoch: int, epochs: int) -> float:
        """Of the last answer, in an epoch of so many."""
        return self.alpha * (epoch + 1) / epochs

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and last answers; what is said now is kept for the next epoch."""
        student, share, entries = networks.student(batch), self.share(batch.epoch, batch.epochs), self.entries(batch)
        logs = F.log_softmax(student.logits, dim=1)
        labels = F.one_hot(batch.labels, logs.shape[1]).to(self.answers.dtype)
        last = torch.where(self.known[entries, None], self.answers[entries], labels)
        with torch.no_grad():
            self.answers[entries], self.known[entries] = logs.exp().to(self.answers.dtype), True
        hard = self.label_loss(student, batch)
        return {"ce": hard, "past": share * (-(last * logs).sum(dim=1).mean() - hard)}
