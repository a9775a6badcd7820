"""Regression of the teacher's logits."""

from typing import Literal

from kdrun.config.constraints import AtLeastOne, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses.response import logit_mse
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class LogitMSE(ScaledWeights):
    """Regress the teacher's logits (Ba and Caruana 2014, equation 1; Bucila et al. 2006).

    Args:
        weight: of the regression.
        reference: with `mean`, for how many classes `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels; the paper's student never sees them.
        reduction: `sum_class` is the paper's: half the squared distance, summed over classes; `mean` averages over
            classes too, and is smaller by half the number of classes.
        center: subtract each sample's mean logit first, which no softmax can see.
    """

    knowledge = ("response",)
    plain_logits = ""
    source = "Ba, Caruana: Do deep nets really need to be deep? NeurIPS 2014"
    survey_scheme = "offline"
    survey_tables = ("Gou section 3.1",)

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling,
                 reduction: Literal["sum_class", "mean"], center: bool) -> None:
        super().__init__()
        self.reference, self.scaling = reference if reduction == "mean" else None, scaling
        self.weight, self.ce_weight, self.reduction, self.center = weight, ce_weight, reduction, center

    def setup(self, networks: Networks, data: Data) -> None:
        """Count the classes."""
        self.rescale(networks.student.shapes.logits[0])

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the regression."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "mse": self.scale * self.weight * logit_mse(teacher.logits, student.logits, reduction=self.reduction,
                                                            center=self.center)}
