"""Correlation congruence."""

from kdrun.config.constraints import NonNegative, Positive, Turns
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.relation import Kernel, cckd
from kdrun.models.roles import Networks


class CCKD(Method):
    """Match how the samples of a batch correlate, beside what each one is answered (Peng et al. 2019).

    Embeddings may differ in size. The paper draws batches with several samples of each class; here they are the
    recipe's, so with many classes and small batches there is less to correlate.

    Args:
        kernel: `gaussian` or `bilinear`.
        gamma: of the Gaussian.
        order: of its Taylor series.
        weight: of the squared difference of the correlations, averaged over all pairs.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
        temperature: of them.
    """

    knowledge = ("relation", "response")
    source = "Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang: Correlation congruence for knowledge distillation. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 6", "Gou section 6.4")

    def __init__(self, *, kernel: Kernel, gamma: Positive, order: Turns,
                 weight: NonNegative, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.kernel, self.gamma, self.order, self.weight = kernel, gamma, order, weight
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, softened answers and correlations."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature),
                "cc": self.weight * cckd(teacher.embedding, student.embedding, self.kernel, self.gamma, self.order)}
