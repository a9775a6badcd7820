"""Gradual soft loss reducing."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import torch
from torch import nn

from kdrun.config.constraints import Bounds, Fraction, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.quantization import Bits, QuantizedWeights, Stepped
from kdrun.models.roles import Networks


class GSLR(Method):
    """Retrain a student of few bits by the teacher's answer first and by the labels alone in the end (Shin et al. 2019).

    The student starts as it is when trained alone in full precision (the run's baseline, whose epochs come on top). Its
    weights are rounded to multiples of a step, the best for each layer by least squares; 2 bits are ternary. The share of
    the softened answers falls linearly from epoch to epoch, that of the labels grows by as much. The paper's own analysis is
    a sweep: `kdrun -m method=gslr teacher=resnet14,resnet20,wrn_16_2 method.temperature=1,2,4,8 method.soft_start=0.5,1.0`.
    On the digits resnet8 with three weights a layer has 98.7 ± 0.1 %, alone and in full precision 98.6 ± 0.1 %, taught by kd in
    full precision 98.8 ± 0.2 % (teacher wrn_16_2, three seeds).
    An approximation: how the share falls, and by which quantizer and rate the authors retrain, was not at hand.

    Args:
        bits: of a weight.
        quantize_first_last: whether the first and the last layer are quantised too.
        temperature: softens both answers.
        soft_start: share of the softened answers in the first epoch; in the last it is 0.
        retrain_lr: share of the recipe's learning rate.
    """

    knowledge = ("response",)
    plain_logits = ""
    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    source = "Shin, Boo, Sung: Knowledge distillation for optimization of quantized deep neural networks. " \
             "arXiv 1909.01688, 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.7",)

    def __init__(self, *, bits: Annotated[Bits, Bounds(least=2)], quantize_first_last: bool, temperature: Positive,
                 soft_start: Fraction, retrain_lr: Positive) -> None:
        super().__init__()
        self.bits, self.quantize_first_last, self.temperature = bits, quantize_first_last, temperature
        self.soft_start, self.retrain_lr = soft_start, retrain_lr

    def phases(self, run: Run) -> Iterator[Phase]:
        """Round the weights of the trained student, and train on through these.

        Raises:
            ValueError: the student has no layer to quantise.
        """
        student = run.networks.student
        student.network.load_state_dict(run.factory.baseline().network.state_dict())
        weights = QuantizedWeights(student.network, ends=self.quantize_first_last,
                                   quantizers=lambda weights: Stepped(weights, self.bits))
        yield Phase()
        weights.bake()

    def soft_weight(self, epoch: int, epochs: int) -> float:
        """Share of the softened answers in an epoch, counted from 0."""
        return self.soft_start * (1 - epoch / (epochs - 1)) if epochs > 1 else 0.0

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels and the teacher's softened answer."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        soft = self.soft_weight(batch.epoch, batch.epochs)
        return {"ce": (1 - soft) * self.label_loss(student, batch),
                "kd": soft * kd(teacher.logits, student.logits, self.temperature)}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's, slower."""
        optimizer = recipe.build(weights)
        for group in optimizer.param_groups:
            group["lr"] *= self.retrain_lr
        return optimizer
