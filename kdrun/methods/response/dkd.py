"""Decoupled knowledge distillation."""

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses.response import dkd_parts
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


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

    needs = ("labels",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Zhao, Cui, Song, Qiu, Liang: Decoupled knowledge distillation. CVPR 2022"
    survey_scheme = ""
    survey_tables = ()
    scaled = ("beta",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, alpha: NonNegative, beta: NonNegative,
                 reference: AtLeastOne | None, scaling: Scaling, warmup_epochs: Epochs) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.temperature, self.ce_weight, self.alpha, self.beta = temperature, ce_weight, alpha, beta
        self.warmup_epochs = warmup_epochs

    def setup(self, networks: Networks, data: Data) -> None:
        """Count the classes."""
        self.rescale(networks.student.shapes.logits[0])

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the two parts."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        target, others = dkd_parts(teacher.logits, student.logits, batch.labels, self.temperature)
        grown = min((batch.epoch + 1) / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "tckd": grown * self.alpha * target, "nckd": grown * self.scale * self.beta * others}
