"""Apprentice: a teacher for a student of low precision."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from kdrun.config.constraints import Bounds, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.quantization import Bits, QuantizedWeights, Wrpn
from kdrun.models.roles import Networks


class Apprentice(Method):
    """Teach a student of low precision by a teacher of full precision (Mishra and Marr 2018, equation 1).

    Three ways: A trains teacher and student together from scratch (`scheme=online`, whose own update of the teacher is
    the term with alpha = 1), B lets a trained teacher teach a student from scratch, C one that has learnt from the
    labels in full precision before (both `scheme=offline`). As in WRPN, weights are clipped to [-1, 1] and what comes into
    a layer to [0, 1] before they are rounded, the first and the last layer's not. In A, with `detach_teacher=false`, the
    term that both share moves the teacher too, by an update of its own between the teacher's and the student's: an
    approximation of the paper's single joint step. The weights file holds rounded values as float32, and not the clipping
    and rounding of activations, which is the network's.

    On the digits (resnet8 taught by wrn_16_2, default settings, three seeds) it ends below the baseline's 98.6 ± 0.1 %:
    at 97.4 ± 0.9 %, and with `activation_bits=null` at 98.6 ± 0.1 %. The clipping to [0, 1] costs more than the 8 bits do:
    of what comes into an inner layer of that baseline 12 to 28 % is above 1, and clipped so, without training on, it has
    10 to 26 % of the training pictures right, but all of them when rounded to 8 bits of each layer's own range.

    Args:
        variant: A, B or C.
        bits: of a weight; 2 is ternary.
        activation_bits: of what comes into a layer, which is clipped to [0, 1]; null leaves it in full precision, unclipped.
        quantize_first_last: whether the first and the last layer are quantised too.
        ce_weight: of the student's cross-entropy with the labels (beta).
        kd_weight: of the shared term (gamma).
        detach_teacher: in A, keep the shared term from the teacher.
        finetune_lr: in C, the share of the recipe's learning rate at which the trained student goes on.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    knowledge = ("response",)
    plain_logits = ""
    source = "Mishra, Marr: Apprentice: using knowledge distillation techniques to improve low-precision network " \
             "accuracy. ICLR 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 6.7",)

    def __init__(self, *, variant: Literal["A", "B", "C"], bits: Annotated[Bits, Bounds(least=2)],
                 activation_bits: Bits | None, quantize_first_last: bool, ce_weight: NonNegative,
                 kd_weight: NonNegative, detach_teacher: bool, finetune_lr: Positive) -> None:
        super().__init__()
        self.variant, self.bits, self.activation_bits = variant, bits, activation_bits
        self.quantize_first_last, self.ce_weight, self.kd_weight = quantize_first_last, ce_weight, kd_weight
        self.detach_teacher, self.finetune_lr = detach_teacher, finetune_lr
        self.rate = 1.0

    def phases(self, run: Run) -> Iterator[Phase]:
        """In full precision where the variant wants it, then in low precision.

        Raises:
            ValueError: the variant does not run under the scheme, or the student has no layer to quantise.
        """
        if (self.variant == "A") == run.scheme.trained_teacher:
            wanted = "trains its teacher along: give scheme=online, or method.variant=B" if self.variant == "A" else \
                "has a trained, frozen teacher: give scheme=offline, or method.variant=A"
            raise ValueError(f"variant {self.variant} {wanted}")
        if self.variant == "C":
            yield Phase("full precision", loss=self.alone, train=[run.networks.student])
            self.rate = self.finetune_lr
        weights = QuantizedWeights(run.networks.student.network, ends=self.quantize_first_last,
                                   quantizers=lambda weights: Wrpn(self.bits), activations=self.activation_bits)
        yield Phase()
        weights.bake()

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The teacher's share of the common term, where it has one; then the student."""
        if self.variant == "A" and not self.detach_teacher:
            teacher, student = networks.teacher(batch, fresh=True), networks.student(batch)
            yield networks.teacher.name, {"apprentice": self.kd_weight * soft_cross_entropy(
                teacher.logits, student.logits.detach(), train_teacher=True)}
        yield "student", self.loss(networks, batch)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teacher's answer."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * soft_cross_entropy(teacher.logits, student.logits)}

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's, slower where a trained student goes on."""
        optimizer = recipe.build(weights)
        for group in optimizer.param_groups:
            group["lr"] *= self.rate
        return optimizer
