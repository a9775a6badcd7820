"""Hinton's knowledge distillation."""

from typing import Literal

from torch import Tensor

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kd, soft_cross_entropy
from kdrun.models.roles import Networks

SHARP = {
    "classification of tokens": "at 4 it ended 2.5 points below the student alone on dataset=languages, at 2 within its spread",
    "tagging of frames": "at 4 it ended 2.2 points below the student alone on dataset=digit_strips, at 1 within its spread",
    "transcription of frames": "on dataset=digit_strips_ctc it ended far below the student alone, at 1 as well: frames of CTC "
                               "are mostly blank",
    "translation of tokens": "at 4 it ended 3.8 points below the student alone on dataset=g2p, at 1 at its level",
}
"""Where a temperature above 1 was measured to harm, over three seeds."""


class KD(Method):
    """Match the teacher's softened answers (Hinton, Vinyals and Dean 2015).

    Two forms are in use. `zhu` (Zhu et al. 2024, equations 1 to 5) scales the KL divergence by the squared temperature,
    so that its gradient keeps its size; `gou` (Gou et al. 2021, equation 8) is the soft cross-entropy without the
    factor, whose gradient is smaller by that factor: weights do not carry over from one form to the other.
    Labels are always met at temperature 1.

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term.
        form: `zhu` or `gou`.
    """

    knowledge = ("response",)
    plain_logits = ""
    source = "Hinton, Vinyals, Dean: Distilling the knowledge in a neural network. NeurIPS workshop 2014, arXiv 1503.02531"
    survey_scheme = "offline"
    survey_tables = ("Gou section 3.1",)

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 form: Literal["zhu", "gou"]) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight, self.form = temperature, ce_weight, kd_weight, form

    def setup(self, networks: Networks, data: Data) -> None:
        """Say where such a temperature was measured to harm."""
        kind = f"{data.task.key} of {data.task.inputs}"
        if self.temperature > 1 and kind in SHARP:
            self.note(f"temperature={self.temperature:g} on {kind}: {SHARP[kind]}; choose it on the validation split")

    def soft(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The soft term of logits [B, K], unweighted."""
        term = kd if self.form == "zhu" else soft_cross_entropy
        return term(teacher, student, self.temperature)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teacher's answer, mixed."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * self.soft(teacher.logits, student.logits)}
