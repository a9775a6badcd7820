"""Answers of a network that is shown the right answers."""

from typing import ClassVar

from kdrun.config.constraints import Fraction, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd
from kdrun.models.roles import Networks


class TrilinearToBilinear(Method):
    """Match the softened answers of a teacher that is shown the right answer beside picture and question (Do et al. 2019).

    The teacher attends to triples of a region, a word and the answer, which is privileged: it is there in training alone.
    The student attends to pairs. Mixed are the divergence of the softened answers, times the squared temperature,
    and the task's label loss, the binary cross-entropy of every answer. The teacher's own test score tells little, as nobody
    shows it the answer there: compare the student with its baseline.

    It runs wherever there are logits of whole samples; elsewhere than in question answering it is distillation of these with
    the task's label loss.

    Args:
        alpha: the share of the softened answers; the rest is the labels'.
        temperature: softens both answers.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("one row a sample", "labels")
    plain_logits = "meets labels by the binary cross-entropies of a task, which need the logits' own scale"
    knowledge = ("response",)
    source = "Do, Do, Tran, Tjiputra, Tran: Compact trilinear interaction for visual question answering. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.3", "Gou 4")

    def __init__(self, *, alpha: Fraction, temperature: Positive) -> None:
        super().__init__()
        self.alpha, self.temperature = alpha, temperature

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels and the teacher's answers, mixed."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": (1 - self.alpha) * self.label_loss(student, batch),
                "kd": self.alpha * kd(teacher.logits, student.logits, self.temperature)}
