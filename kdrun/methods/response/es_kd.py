"""Distillation that stops early: the teacher's training, or its influence."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from torch import nn

from kdrun.config.constraints import Bounds, Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.roles import STOPPED, Networks


class EarlyStoppedKD(Method):
    """Learn from a teacher whose training was stopped early, or let go of the teacher early (Cho and Hariharan 2019).

    A student that is too small for its teacher can follow it for a while only. Two remedies, each a setting of its own: a
    teacher of a shorter training (its schedule runs whole over those epochs), or a soft term that is dropped for the last
    epochs, in which the labels alone are left. The teacher of the results is the whole one; the one that was stopped is kept
    beside it, with a row of its own, and `kdrun diagnose capacity` compares how far students follow either.

    The abstract names the remedies; weights, temperature and shares are from memory or ours.

    Args:
        teacher_share: of the teacher's epochs that the one that teaches is trained for; 1 for the teacher as it is.
        soft_share: of the student's epochs in which the teacher counts; 1 for all, 0 for none.
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels, while the teacher counts; 1 afterwards.
        kd_weight: of the soft term, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Cho, Hariharan: On the efficacy of knowledge distillation. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 1", "Gou section 9.1")

    def __init__(self, *, teacher_share: Annotated[float, Bounds(above=0, most=1)], soft_share: Fraction,
                 temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.teacher_share, self.soft_share, self.temperature = teacher_share, soft_share, temperature
        self.ce_weight, self.kd_weight = ce_weight, kd_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, after the teacher that stopped early has come.

        Raises:
            ValueError: the teacher's training was somebody else's.
        """
        if self.teacher_share < 1:
            run.networks.teachers = [run.factory.stopped_early(self.teacher_share)]
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and the teacher while it counts."""
        student = networks.student(batch)
        hard = self.label_loss(student, batch)
        if batch.epoch >= round(self.soft_share * batch.epochs):
            return {"ce": hard}
        return {"ce": self.ce_weight * hard,
                "kd": self.kd_weight * kd(networks.teacher(batch).logits, student.logits, self.temperature)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student; and the teacher that taught it, where that is not the one of the results."""
        return {"student": networks.student, **({STOPPED: networks.teacher} if self.teacher_share < 1 else {})}
