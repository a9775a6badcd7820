"""Quantized distillation."""

from collections.abc import Iterator
from typing import ClassVar

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.quantization import Bits, Bucketed, QuantizedWeights
from kdrun.models.roles import Networks


class QuantDistill(Method):
    """Distill into a student whose weights are quantised at every step (Polino, Pascanu and Alistarh 2018, section 3).

    Each step sees the weights rounded to equally distant levels between the extremes of their bucket, and moves the
    float32 weights underneath; at the end the rounded ones are put in their place. Batch statistics are those of the
    rounded weights throughout. The weights file holds the rounded values as float32; bytes and bits in the results are
    what they take when packed. The first and last layer are counted in the order in which the network lists them.

    Args:
        bits: of a weight.
        bucket: how many weights share a range; null: all of a layer.
        quantize_first_last: whether the first and the last layer are quantised too.
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    knowledge = ("response",)
    plain_logits = ""
    source = "Polino, Pascanu, Alistarh: Model compression via distillation and quantization. ICLR 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.7", "Alkhulaifi 1")

    def __init__(self, *, bits: Bits, bucket: AtLeastOne | None, quantize_first_last: bool, temperature: Positive,
                 ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.bits, self.bucket, self.quantize_first_last = bits, bucket, quantize_first_last
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """Train through rounded weights, and keep those.

        Raises:
            ValueError: the student has no layer to quantise.
        """
        weights = QuantizedWeights(run.networks.student.network, ends=self.quantize_first_last,
                                   quantizers=lambda weights: Bucketed(self.bits, self.bucket))
        yield Phase()
        weights.bake()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teacher's answer, mixed."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature)}
