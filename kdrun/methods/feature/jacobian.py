"""Jacobian matching."""

import math

from kdrun.config.constraints import AtLeastOne, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses.feature import jacobian
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class Jacobian(ScaledWeights):
    """Match how the label's logit changes with each pixel (Srinivas and Fleuret 2018).

    The paper matches every entry of the Jacobian and picks the largest answer's row to afford it; this takes the row of
    the label and its direction only, so the scale of neither network's logits matters. A student that trains with batch
    normalisation mixes samples, so its gradients hold a little of the other samples of the batch. The student is
    differentiated twice, the teacher once with respect to the pictures: a step costs two to three times the usual.

    Args:
        weight: of the mean squared difference.
        reference: for how many numbers of a picture `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("pictures", "one row a sample", "labels")
    knowledge = ("feature",)
    source = "Srinivas, Fleuret: Knowledge transfer with Jacobian matching. ICML 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.5",)
    unit = "numbers of a picture"

    def __init__(self, *, weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.weight, self.ce_weight = weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Count the numbers of a picture."""
        self.rescale(math.prod(networks.student.task.shape))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and sensitivities."""
        pictures = batch.pictures.detach().requires_grad_()
        teacher = networks.teacher(pictures)
        wanted = jacobian(teacher.logits, pictures, batch.labels, create_graph=False)
        student = networks.student(pictures)
        given = jacobian(student.logits, pictures, batch.labels, create_graph=True)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "jacobian": self.scale * self.weight * (given - wanted.detach()).square().mean()}
