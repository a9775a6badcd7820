"""Arithmetic that several methods share, and nothing else.

Conventions: B samples, K classes. A soft loss sums over classes and averages over samples; the target comes first and
is never trained. Everything works on float32 or float64, whatever the networks ran in.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence of the softened answers from the softened target, in nats.

    Args:
        target: logits [B, K] of whoever teaches.
        logits: logits [B, K] of whoever learns.
        temperature: what both are divided by.

    Returns:
        A scalar: the sum over classes, the mean over samples. No factor of the squared temperature.
    """
    wanted = F.log_softmax(target.detach() / temperature, dim=1)
    given = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def soften(target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Hinton's soft term: `kl` times the squared temperature, which keeps its gradient comparable with a hard loss."""
    return temperature**2 * kl(target, logits, temperature)


def soft_cross_entropy(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy against softened targets: `kl` plus the target's entropy, so equal in gradient, not in value."""
    wanted = F.softmax(target.detach() / temperature, dim=1)
    return -(wanted * F.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()


def mixture(answers: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    """Logits [B, K] whose softened answer is the mean of the softened answers of several logits [B, K]."""
    logs = [F.log_softmax(logits / temperature, dim=1) for logits in answers]
    return temperature * (torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs)))


def unit_rows(vectors: Tensor) -> Tensor:
    """Rows of length one; a row of zeros stays zero and has a finite gradient."""
    return F.normalize(vectors, dim=-1)


def distances(vectors: Tensor) -> Tensor:
    """Euclidean distances [B, B] between the rows of [B, D], with a zero diagonal and finite gradients everywhere."""
    squares = (vectors * vectors).sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    # The clamp comes before the root: a root at zero has no gradient, a clamped entry has a gradient of zero.
    roots = squared.clamp_min(1e-12).sqrt()
    return roots * (1 - torch.eye(len(vectors), dtype=roots.dtype, device=roots.device))


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two stacks of maps [B, C, H, W] to the smaller one's height and width."""
    height, width = min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1])
    return tuple(maps if maps.shape[-2:] == (height, width)  # type: ignore[return-value]
                 else F.adaptive_avg_pool2d(maps, (height, width)) for maps in (first, second))


def places(first: torch.Size, second: torch.Size) -> int:
    """How many places two maps of these shapes [C, H, W] have once `same_size` has met them."""
    return min(first[-2], second[-2]) * min(first[-1], second[-1])


def ramp(done: float, length: float) -> float:
    """How far a weight has grown: from exp(-5) at the start to 1 at `length`, along a bell's flank (Laine and Aila 2017).

    Args:
        done: of the training, in any unit.
        length: after how much of it the weight is whole; 0 for from the start.
    """
    return math.exp(-5 * (1 - min(done / length, 1.0)) ** 2) if length > 0 else 1.0
