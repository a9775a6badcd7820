"""How networks are trained: optimizer, schedule and length, the same for teacher, baseline and student."""

import bisect
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Epochs, NonNegative, Positive, Proportion

if TYPE_CHECKING:
    import torch

__all__ = ["Recipe"]


@dataclass(kw_only=True)
class Recipe:
    """A training recipe.

    Attributes:
        name: what results call it.
        epochs: of the main phase.
        init_epochs: of a first phase that only initialises, for methods that have one, at the rate's height throughout.
        batch_size: samples a step.
        optimizer: SGD with momentum, or AdamW.
        lr: the learning rate at its height.
        momentum: of SGD.
        nesterov: its look-ahead form.
        weight_decay: on every parameter, or on those that `no_decay` leaves.
        no_decay: whether biases and the weights of normalisations, which have one dimension, go without weight decay.
        schedule: `multistep` multiplies by `gamma` at each milestone, `cosine` falls to zero, `constant` stays.
        milestones: shares of the phase's length, so that a shorter run keeps the recipe's form.
        gamma: see `schedule`.
        warmup_epochs: the rate climbs linearly over these first.
        clip: the largest norm of each player's gradient; null for no clipping.
        label_smoothing: of every cross-entropy with labels.
        mixup: both numbers of the Beta distribution of the share by which pictures of a batch are added up in pairs, and
            their labels; 0 for none. See `kdrun.data.mixing`.
        cutmix: likewise, of the area in which a rectangle of one picture is pasted into another. Where both are above 0, a
            batch is mixed by one of them.
        accumulate: batches whose mean gradient makes one update; 1 for an update a batch.
        ema: the share of the past in a moving average of the weights, which is then what is validated, tested and saved;
            null for the weights themselves. See `kdrun.training.averaging`.
        skip_bad_batches: so many batches of a training may have a loss or a gradient that is NaN or infinite: they are
            left out, and leave no trace in weights or statistics. One more stops the training, as does the first by 0.
    """

    name: str
    epochs: Annotated[int, Bounds(least=1, most=1_000_000)]
    init_epochs: Epochs
    batch_size: Annotated[int, Bounds(least=2)]
    optimizer: Literal["sgd", "adamw"]
    lr: Positive
    momentum: Proportion
    nesterov: bool
    weight_decay: NonNegative
    no_decay: bool
    schedule: Literal["multistep", "cosine", "constant"]
    milestones: list[Proportion]
    gamma: Positive
    warmup_epochs: NonNegative
    clip: Positive | None
    label_smoothing: Proportion
    mixup: NonNegative
    cutmix: NonNegative
    accumulate: AtLeastOne
    ema: Annotated[float, Bounds(above=0, below=1)] | None
    skip_bad_batches: Count

    def build(self, parameters: "Iterable[torch.Tensor]") -> "torch.optim.Optimizer":
        """An optimizer over these parameters."""
        import torch  # here: settings are read where torch would take too long to load

        weights = list(parameters)
        decayed = [weight for weight in weights if weight.ndim > 1] if self.no_decay else weights
        exempt = [weight for weight in weights if weight.ndim <= 1] if self.no_decay else []
        parts: list[dict[str, Any]] = [{"params": decayed}, {"params": exempt, "weight_decay": 0.0}]
        groups = [part for part in parts if part["params"]]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay,
                               nesterov=self.nesterov and self.momentum > 0, fused=True)

    def parts(self, count: int) -> list[int]:
        """The epochs in so many nearly equal parts; in fewer where there are not so many epochs."""
        count = min(count, self.epochs)
        ends = [round(self.epochs * part / count) for part in range(count + 1)]
        return [end - start for start, end in itertools.pairwise(ends)]

    def rate(self, epoch: float, epochs: int, constant: bool = False) -> float:
        """The learning rate at a moment of a phase of so many epochs: a closed form, so nothing is to be resumed.

        Args:
            epoch: epochs done, with the part of the present one.
            epochs: the length of the phase.
            constant: whether the rate stays at its height after the warm-up, whatever the schedule.
        """
        if epoch < self.warmup_epochs:
            return self.lr * epoch / self.warmup_epochs
        if constant or self.schedule == "constant":
            return self.lr
        if self.schedule == "multistep":
            passed = bisect.bisect_right([share * epochs for share in sorted(self.milestones)], math.floor(epoch) + 1e-9)
            return self.lr * self.gamma**passed
        length = max(epochs - self.warmup_epochs, 1e-9)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min((epoch - self.warmup_epochs) / length, 1)))
