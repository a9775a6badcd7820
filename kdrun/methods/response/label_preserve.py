"""Answers kept as they are: a student that errs where its teacher errs, and nowhere else."""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.models.roles import Networks


class LabelPreserve(Method):
    """Labels, paired logits, and the teacher's own answers as labels (Joseph et al. 2020).

    Accuracy says how many pictures a compressed network loses on balance; its users also meet those that it gains and
    those that it gets wrong in another way. `kdrun diagnose mismatches` counts them.

    The paper's abstract names the terms and the two weightings; how the weights are learned it leaves to its text, which
    this follows by memory: by each term's uncertainty (Kendall, Gal and Cipolla 2018, equation 7).

    Args:
        ce_weight: of the cross-entropy with the labels.
        pairing_weight: of the mean squared difference of logits.
        label_weight: of the cross-entropy with the class that the teacher answers.
        weighting: `uniform` takes these weights as they are; `learned` multiplies each term by exp(-s) with an s of its
            own that learns along, and adds s, so that no term can be weighed away.
    """

    knowledge = ("response",)
    plain_logits = ""
    source = ("Joseph, Siddiqui, Bhaskara, Gopalakrishnan, Muralidharan, Garland, Ahmed, Dengel: Going beyond classification "
              "accuracy metrics in model compression, 2020")
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi section 7",)

    def __init__(self, *, ce_weight: NonNegative, pairing_weight: NonNegative, label_weight: NonNegative,
                 weighting: Literal["uniform", "learned"]) -> None:
        super().__init__()
        self.weights = {"ce": ce_weight, "pairing": pairing_weight, "answer": label_weight}
        self.label_term = "ce" if weighting == "uniform" else None  # else its weight learns
        self.uncertainty = nn.Parameter(torch.zeros(len(self.weights))) if weighting == "learned" else None

    def terms(self, hard: Tensor, answer: Tensor, teacher: Tensor, student: Tensor) -> Terms:
        """The weighted terms.

        Args:
            hard: the cross-entropy with the labels.
            answer: that with the teacher's answers.
            teacher: logits [B, K]; no gradient goes there.
            student: logits [B, K].
        """
        bare = {"ce": hard, "pairing": F.mse_loss(student, teacher.detach()), "answer": answer}
        if self.uncertainty is None:
            return {name: self.weights[name] * term for name, term in bare.items()}
        scaled = {name: self.weights[name] * term * torch.exp(-own) for (name, term), own in
                  zip(bare.items(), self.uncertainty, strict=True)}
        return {**scaled, "uncertainty": self.uncertainty.sum()}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """All three terms."""
        student, teacher = networks.student(batch), networks.teacher(batch).logits
        answer = self.label_loss(student, replace(batch, y=teacher.argmax(dim=1)))
        return self.terms(self.label_loss(student, batch), answer, teacher, student.logits)
