"""Several teachers, averaged."""

from typing import ClassVar

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses.response import Mean, kd_of_teachers
from kdrun.models.roles import Networks


class AveragedTeachers(Method):
    """Match the mean of several teachers' softened answers (Hinton, Vinyals and Dean 2015).

    Three means are in use. `prob` averages the softened answers; `logit` averages the logits, which is the geometric
    mean of the softened answers, scaled to sum to one; `loss` averages the soft terms of the teachers one by one.
    `prob` and `loss` pull the student alike: their values differ by how far the teachers are from one another, which
    the student cannot change. One teacher makes all three Hinton's method.

    Args:
        mean: `prob`, `logit` or `loss`.
        temperature: softens all answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    knowledge = ("response",)
    plain_logits = ""
    source = "Hinton, Vinyals, Dean: Distilling the knowledge in a neural network. NeurIPS workshop 2014, arXiv 1503.02531"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.2",)

    def __init__(self, *, mean: Mean, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.mean, self.temperature, self.ce_weight, self.kd_weight = mean, temperature, ce_weight, kd_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the mean teacher."""
        student, answers = networks.student(batch), [teacher(batch).logits for teacher in networks.teachers]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd_of_teachers(answers, student.logits, self.temperature, self.mean)}
