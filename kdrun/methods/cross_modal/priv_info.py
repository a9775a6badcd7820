"""Generalized distillation: privileged information."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import Count, Fraction, Positive
from kdrun.data.batch import Batch
from kdrun.data.pool import BesidePool
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks


class PrivilegedInformation(Method):
    """Learn from labels and from a teacher that sees of each sample what will not be there later (Lopez-Paz et al. 2016).

    The teacher sees the better description of a sample (`dataset=pair`), the student what there is at test time. The loss is
    1 - lambda times the cross-entropy with the labels and lambda times that with the teacher's softened answers (equation 5),
    by default with the squared temperature, as in the release. Where both see the same this is Hinton's distillation. Samples
    without labels, where the data set has some (`dataset.labelled=200`), take part in the soft term alone.

    It can only help where what the teacher sees says which of the labels to trust or what to look at; two of the paper's four
    generated cases gain nothing, and `dataset.paired=false` is the control that must lose whatever is gained. Measured on 200
    digits, seen by the student at half resolution (resnet8 taught by wrn_16_2, batches of 16, three seeds): 84.2 ± 1.1 % of
    the test set right, the student alone 85.0 ± 0.6 %, the teacher, which sees them whole, 97.2 ± 0.4 %: nothing gained.

    Args:
        imitation: lambda, the weight of the teacher.
        temperature: softens the teacher's answers.
        student_temperature: `same` softens the student's too; `one` does not, which is the release's form, so that the squared
            temperature makes the soft term so much stronger.
        squared: whether the soft term is multiplied by the squared temperature.
        pool_ratio: samples without labels for each labelled one of a batch.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = "may leave the student's answers unsoftened (student_temperature=one)"
    source = "Lopez-Paz, Bottou, Schölkopf, Vapnik: Unifying distillation and privileged information. ICLR 2016"
    survey_scheme = ""
    survey_tables = ("Gou section 3.3",)

    def __init__(self, *, imitation: Fraction, temperature: Positive, student_temperature: Literal["same", "one"],
                 squared: bool, pool_ratio: Count) -> None:
        super().__init__()
        self.imitation, self.temperature, self.student_temperature = imitation, temperature, student_temperature
        self.squared, self.pool_ratio = squared, pool_ratio

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, with samples without labels beside the others where there are some."""
        if run.data.pool is None or not self.pool_ratio:
            yield Phase()
        else:
            yield Phase(data=BesidePool(run.stream, run.pool(self.pool_ratio * run.stream.size, len(run.stream))))

    def soft(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The soft term of logits [B, K], unweighted."""
        given = student if self.student_temperature == "same" else student * self.temperature
        return (self.temperature**2 if self.squared else 1.0) * soft_cross_entropy(teacher, given, self.temperature)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and the teacher of the better description."""
        student, teacher = networks.student(batch).logits, networks.teacher(batch).logits
        terms = {"ce": (1 - self.imitation) * self.label_loss(networks.student(batch), batch)}
        if batch.pool is not None:
            student = torch.cat([student, networks.student(batch.pool).logits])
            teacher = torch.cat([teacher, networks.teacher(batch.pool).logits])
        return terms | {"soft": self.imitation * self.soft(teacher, student)}
