"""Several teachers, each of which sees a sample in its own way, by weights."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd, mixture
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks


class WeightedTeachers(Method):
    """Match the weighted mean of softened answers of teachers that see the sample in several ways (Wu et al. 2019).

    The paper's teachers see the frames, the motion and the residuals of compressed videos, its student one of them. With
    `dataset=views` each teacher here has a modality of its own; crops are drawn once and shared by all. On any other data
    set all teachers see what the student does, and with equal weights this is the averaged teacher.

    An approximation: the paper was not at hand, so what the weights are, the temperature and the shares of the two terms
    are ours.

    Args:
        weights: of the teachers: `uniform`, `accuracy` (each in proportion to its headline measure on the validation
            split, so that validation measures of the student are slightly favourable), or a list of numbers, which are
            divided by their sum.
        temperature: softens all answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    knowledge = ("response",)
    plain_logits = ""
    source = "Wu, Chiu, Wu: Multi-teacher knowledge distillation for compressed video action recognition on deep neural " \
             "networks. ICASSP 2019"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 1",)

    shares: Tensor

    def __init__(self, *, weights: Literal["uniform", "accuracy"] | list[NonNegative], temperature: Positive,
                 ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        if isinstance(weights, list) and not sum(weights):
            raise ValueError(f"weights: got {weights}, whose sum is 0; at least one must be above")
        self.weights, self.temperature = weights, temperature
        self.ce_weight, self.kd_weight = ce_weight, kd_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, by weights that stay.

        Raises:
            ValueError: there are not as many weights as teachers, or nothing to measure them on.
        """
        count = len(run.networks.teachers)
        if isinstance(self.weights, list) and len(self.weights) != count:
            raise ValueError(f"method.weights has {len(self.weights)} numbers, but there are {count} teachers; give one each")
        if self.weights == "accuracy" and not len(run.data.validation):
            raise ValueError("method.weights=accuracy measures the teachers on the validation split, and there is none; set "
                             "dataset.validation above 0, or give weights=uniform")
        given = self.weights if isinstance(self.weights, list) else [1.0] * count
        if self.weights == "accuracy" and not run.rehearsal:
            given = self.measured(run.networks, run.data)
        shares = torch.tensor(given, device=run.networks.device)
        self.register_buffer("shares", shares / shares.sum())
        yield from super().phases(run)

    def measured(self, networks: Networks, data: Data) -> list[float]:
        """How good each teacher is on the validation split, as it sees it; equally good where none is any good."""
        split, task = data.validation, data.task
        found = [task.measures(answers(teacher, data, split, networks.device), split)[task.headline] or 0.0
                 for teacher in networks.teachers]
        return found if sum(found) else [1.0] * len(found)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the weighted teachers."""
        student, said = networks.student(batch), [teacher(batch).logits for teacher in networks.teachers]
        wanted = mixture(said, self.temperature, self.shares)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(wanted, student.logits, self.temperature)}

    def extra_tables(self, run: Run) -> dict[str, Sequence[dict[str, object]]]:
        """The weights of the teachers."""
        return {"teacher_weights": [{"teacher": teacher.name, "model": teacher.model, "weight": share}
                                    for teacher, share in zip(run.networks.teachers, self.shares.tolist(), strict=True)]}
