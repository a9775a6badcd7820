"""Gradients that are clipped term by term, as some papers have it, and not all together as `recipe.clip` does."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["clipped"]


def clipped(loss: Tensor, reference: Tensor, weights: Iterable[nn.Parameter], share: float = 1.0) -> Tensor:
    """A loss whose gradient is nowhere longer than that of another loss.

    Source: Lee, Kim, Song, Self-supervised knowledge distillation using singular value decomposition, ECCV 2018.

    Args:
        loss: a scalar.
        reference: another, of the same weights.
        weights: what both train; those that do not learn are passed over.
        share: of the length of the reference's gradient, weight by weight, that the loss's may have.

    Returns:
        A scalar of the loss's value. Its gradient by each of the weights has the loss's direction; by all else it is zero.
    """
    learning = [weight for weight in weights if weight.requires_grad]
    own, other = (torch.autograd.grad(one, learning, retain_graph=True, allow_unused=True, materialize_grads=True)
                  for one in (loss, reference))
    total = loss.detach()
    for weight, slope, limit in zip(learning, own, other, strict=True):
        cut = (share * limit.norm() / slope.norm().clamp_min(1e-12)).clamp_max(1)
        total = total + ((weight - weight.detach()) * (cut * slope)).sum()  # adds nothing to the value
    return total
