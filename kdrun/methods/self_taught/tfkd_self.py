"""Teacher-free distillation from the trained student."""

from collections.abc import Iterator
from typing import ClassVar

from kdrun.bounds import NonNegative, Positive
from kdrun.cast import Cast
from kdrun.data.batch import Batch
from kdrun.engine import Run
from kdrun.losses import soften
from kdrun.method import Method, Phase, Teachers, Terms


class TfKDSelf(Method):
    """Train the student again, taught by what it became when trained alone (Yuan et al. 2020, equation 6).

    The baseline of the run is the teacher, frozen, so both start from the same first weights. The authors average the
    divergence over classes too and multiply it by a number that undoes this in part; here it is summed over classes, so
    `kd_weight` is their weight times their multiplier over the number of classes.

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = "response"
    source = "Yuan, Tay, Li, Wang, Feng: Revisiting knowledge distillation via label smoothing regularization. CVPR 2020"
    survey_scheme = "self"
    rows = ("Gou 6",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, by the baseline."""
        run.cast.teachers = [run.networks.baseline()]
        yield Phase()

    def loss(self, cast: Cast, batch: Batch) -> Terms:
        """Labels and the student's trained self."""
        student, teacher = cast.student(batch), cast.teacher(batch)
        return {"ce": self.ce_weight * self.hard(student, batch),
                "kd": self.kd_weight * soften(teacher.logits, student.logits, self.temperature)}
