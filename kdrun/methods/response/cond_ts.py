"""Conditional teacher-student learning."""

from kdrun.config.constraints import Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.response import conditional
from kdrun.models.roles import Networks


class ConditionalTS(Method):
    """Learn from the teacher's answer where it is right, and from the label where it is not (Meng et al. 2019).

    Each sample counts once, by the one or the other, and nothing weighs them. A teacher that has every training sample
    right makes this soft labels alone. The abstract tells the rule; that both answers are taken at temperature 1 is from
    memory.

    Args:
        temperature: softens both answers, where the teacher is right.
    """

    needs = ("labels",)
    label_term = None
    knowledge = ("response",)
    plain_logits = "takes labels and answers by turns"
    source = "Meng, Li, Zhao, Gong: Conditional teacher-student learning. ICASSP 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 3.1",)

    def __init__(self, *, temperature: Positive) -> None:
        super().__init__()
        self.temperature = temperature

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The soft and the hard part."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        soft, hard = conditional(teacher.logits, student.logits, batch.labels, self.temperature, self.label_smoothing)
        return {"soft": soft, "hard": hard}
