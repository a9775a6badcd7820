"""Differentiable quantization."""

import itertools
from collections.abc import Iterator, Sequence
from math import ceil, log2
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.quantization import Bits, QuantizedWeights, Quantizer, buckets, inner_layers, scale_bits
from kdrun.models.roles import Networks, frozen


class Points(Quantizer):
    """Levels that learn: one list of points in [0, 1] for all buckets of a layer (Polino et al. 2018, section 4).

    A weight takes the nearest point, brought back to its bucket's range. The gradient of a point is the sum over the
    weights that took it, each times the span of its bucket.

    Args:
        weights: the layer's; the points start at their quantiles, extremes included.
        count: how many points.
        bucket: how many weights share a range; None: all.
    """

    def __init__(self, weights: Tensor, count: int, bucket: int | None) -> None:
        super().__init__()
        self.bucket = bucket
        scaled = buckets(weights, bucket)[0].flatten()[:weights.numel()].sort().values
        places = torch.linspace(0, len(scaled) - 1, count, dtype=torch.float64).round().long()
        self.points = nn.Parameter(scaled[places.to(scaled.device)].clone())

    def forward(self, weights: Tensor) -> Tensor:
        """Each weight's nearest point."""
        scaled, span, low = buckets(weights.detach(), self.bucket)
        nearest = torch.bucketize(scaled, ((self.points[1:] + self.points[:-1]) / 2).detach())
        return (self.points[nearest] * span + low).flatten()[:weights.numel()].view_as(weights)

    def sort(self) -> None:
        """Bring the points in order again, which an update may have disturbed: assignment relies on it."""
        with torch.no_grad():
            self.points.copy_(self.points.sort().values)

    def stored_bits(self, count: int) -> int:
        """An index a weight, the points, and two numbers a bucket."""
        return count * ceil(log2(len(self.points))) + len(self.points) * 32 + scale_bits(count, self.bucket)


def shares(norms: Sequence[float], bits: int) -> list[int]:
    """How many points each layer gets of 2^bits a layer: half of that to each, the rest by the norm of its gradient."""
    least = max(2**bits // 2, 2)
    spare, total = (2**bits - least) * len(norms), sum(norms)
    return [least + int(spare * (norm / total if total > 0 else 1 / len(norms))) for norm in norms]


class DiffQuant(Method):
    """Learn the levels that a trained network's weights are rounded to (Polino, Pascanu and Alistarh 2018, section 4).

    First the student learns in full precision: from labels and the run's teacher under `scheme=offline`, from labels
    alone under `scheme=self`. Then its weights stay, and the levels learn by gradient from labels and from the student
    in full precision, which is the teacher of this phase. Batch statistics follow the rounded weights. Bytes and bits
    in the results count the indices of the levels, the levels themselves and the range of each bucket.

    Args:
        bits: of a weight, on the average over layers if points are redistributed, before rounding to whole bits.
        bucket: how many weights share a range; null: all of a layer.
        quantize_first_last: whether the first and the last layer are quantised too.
        redistribute: give layers with larger gradients more levels, the sum being the same.
        probe_batches: how many batches those gradients are taken from.
        points_epochs: of the second phase.
        points_lr: of the levels, at its height.
        points_momentum: of the levels, in Nesterov's form.
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "self")
    past_teaches = False
    knowledge = ("response",)
    plain_logits = ""
    source = "Polino, Pascanu, Alistarh: Model compression via distillation and quantization. ICLR 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.7", "Alkhulaifi 1")

    def __init__(self, *, bits: Bits, bucket: AtLeastOne | None, quantize_first_last: bool, redistribute: bool,
                 probe_batches: AtLeastOne, points_epochs: AtLeastOne, points_lr: Positive, points_momentum: Proportion,
                 temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.bits, self.bucket, self.quantize_first_last = bits, bucket, quantize_first_last
        self.redistribute, self.probe_batches = redistribute, probe_batches
        self.points_epochs, self.points_lr, self.points_momentum = points_epochs, points_lr, points_momentum
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight
        self.quantizers: list[Points] = []  # of the student, whose state holds them

    def phases(self, run: Run) -> Iterator[Phase]:
        """Full precision, then the levels.

        Raises:
            ValueError: the student has no layer to quantise.
        """
        student = run.networks.student
        layers = inner_layers(student.network, self.quantize_first_last)
        taught = run.scheme.trained_teacher
        yield Phase("full precision", loss=self.loss if taught else self.alone, train=[student])
        run.networks.teachers = [frozen(student, "full precision")]
        counts = shares(self.norms(run, layers), self.bits) if self.redistribute else [2**self.bits] * len(layers)
        self.quantizers = [Points(layer.get_parameter("weight").detach(), count, self.bucket)
                           for layer, count in zip(layers, counts, strict=True)]
        weights = QuantizedWeights(student.network, ends=self.quantize_first_last, quantizers=list(self.quantizers))
        student.requires_grad_(False)
        for quantizer in self.quantizers:
            quantizer.requires_grad_(True)
        yield Phase("points", train=self.quantizers, epochs=self.points_epochs)
        weights.bake()

    def norms(self, run: Run, layers: Sequence[nn.Module]) -> list[float]:
        """The mean length of the labels' gradient at each layer's weights; that of the softened answers is zero here."""
        student, weights = run.networks.student, [layer.get_parameter("weight") for layer in layers]
        student.eval()
        found = torch.zeros(len(layers), dtype=torch.float64)
        for batch in itertools.islice(run.stream.epoch(0, 1), 1 if run.rehearsal else self.probe_batches):
            gradients = torch.autograd.grad(self.label_loss(student(batch), batch), weights)
            found += torch.stack([gradient.norm().double().cpu() for gradient in gradients])
        student.forget()
        return found.tolist()

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the levels, and their order."""
        for module in networks.student.modules():
            if isinstance(module, _BatchNorm):
                module.train()  # the loop lets the statistics of frozen layers rest, but the weights are others now
        yield "student", self.loss(networks, batch)
        for quantizer in self.quantizers:
            quantizer.sort()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teacher's answer, mixed."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature)}

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's for the weights; the paper's for the levels."""
        if not self.quantizers:
            return recipe.build(weights)
        return torch.optim.SGD(weights, lr=self.points_lr, momentum=self.points_momentum,
                               nesterov=self.points_momentum > 0)
