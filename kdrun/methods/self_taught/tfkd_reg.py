"""Teacher-free distillation from a teacher by design."""

from typing import ClassVar, Literal

from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.losses import kl
from kdrun.methods.losses.response import smoothed_labels
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class TfKDReg(ScaledWeights):
    """Match a teacher that is always right and equally sure, and made up by hand (Yuan et al. 2020, equation 8).

    The two ways to soften it are not alike. `code` is what the authors released: a softmax over its probabilities, hence
    nearly even, against the student's answers at temperature 1: it acts as label smoothing. `tempered` softens its
    log-probabilities and the student alike, as one softens a network. The authors average the divergence over classes too
    and multiply it by a number that undoes this in part; here it is summed over classes, so `kd_weight` is their weight
    times their multiplier over the number of classes.

    Args:
        confidence: the probability that the teacher gives to the label.
        temperature: see above.
        target: `code` or `tempered`.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the divergence, without the squared temperature.
        reference: for how many classes `kd_weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("labels",)
    knowledge = ("response",)
    plain_logits = "makes its target of the labels"
    source = "Yuan, Tay, Li, Wang, Feng: Revisiting knowledge distillation via label smoothing regularization. CVPR 2020"
    survey_scheme = "self"
    survey_tables = ("Gou section 4.3",)
    scaled = ("kd_weight",)

    def __init__(self, *, confidence: Proportion, temperature: Positive, target: Literal["code", "tempered"],
                 ce_weight: NonNegative, kd_weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling) -> None:
        super().__init__()
        self.confidence, self.temperature, self.target = confidence, temperature, target
        self.ce_weight, self.kd_weight = ce_weight, kd_weight
        self.reference, self.scaling = reference, scaling

    def setup(self, networks: Networks, data: Data) -> None:
        """Count the classes."""
        self.rescale(networks.student.shapes.logits[0])

    def soft(self, labels: Tensor, student: Tensor) -> Tensor:
        """The divergence of logits [B, K] from the teacher, a scalar."""
        teacher = smoothed_labels(labels, student.shape[1], self.confidence).to(student.dtype)
        if self.target == "code":
            return kl(teacher / self.temperature, student)
        return kl(teacher.log(), student, self.temperature)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teacher."""
        student = networks.student(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.scale * self.kd_weight * self.soft(batch.labels, student.logits)}
