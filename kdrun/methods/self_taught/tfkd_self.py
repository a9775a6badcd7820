"""Teacher-free distillation from the trained student."""

from collections.abc import Iterator
from typing import ClassVar

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class TfKDSelf(ScaledWeights):
    """Train the student again, taught by what it became when trained alone (Yuan et al. 2020, equation 6).

    The baseline of the run is the teacher, frozen, so both start from the same first weights. The authors average the
    divergence over classes too and multiply it by a number that undoes this in part; here it is summed over classes, so
    `kd_weight` is their weight times their multiplier over the number of classes.

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
        reference: for how many classes `kd_weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    plain_logits = ""
    source = "Yuan, Tay, Li, Wang, Feng: Revisiting knowledge distillation via label smoothing regularization. CVPR 2020"
    survey_scheme = "self"
    survey_tables = ("Gou 6",)
    scaled = ("kd_weight",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 reference: AtLeastOne | None, scaling: Scaling) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, by the baseline."""
        self.rescale(run.networks.student.shapes.logits[0])
        run.networks.teachers = [run.factory.baseline()]
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the student's trained self."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.scale * self.kd_weight * kd(teacher.logits, student.logits, self.temperature)}
