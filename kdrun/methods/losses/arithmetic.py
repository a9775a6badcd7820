"""Arithmetic that several losses share.

Conventions of this package: B samples, K classes. What teaches comes first; what learns second. Everything works on
float32 or float64, whatever the networks ran in, and has a finite gradient everywhere.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["distances", "halving_sum", "mean_distance", "mixture", "places", "ramp", "row_mean",
           "same_size", "standardise", "unit_rows"]


def mixture(logits: Sequence[Tensor], temperature: float = 1.0, shares: Tensor | None = None) -> Tensor:
    """Logits whose softmax at a temperature is the mean of several networks' softmaxes at it.

    Args:
        logits: [B, K] of each network.
        temperature: what they are divided by.
        shares: of each network in the mean, [M], none negative and of sum 1; None for equal ones.

    Returns:
        Logits [B, K].

    Example:
        >>> sure, unsure = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> mixture([sure, unsure]).softmax(1)  # the mean of 0.8808 and 0.5
        tensor([[0.6904, 0.3096]])
    """
    logs = [F.log_softmax(one / temperature, dim=1) for one in logits]
    if shares is None:
        return temperature * (torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs)))
    return temperature * torch.logsumexp(torch.stack(logs) + shares.log()[:, None, None], dim=0)


def standardise(logits: Tensor) -> Tensor:
    """Logits [B, K] with mean 0 and (unbiased) standard deviation 1 in each row.

    Source: Sun et al., Logit standardization in knowledge distillation, CVPR 2024, section 4.2.

    Example:
        >>> standardise(torch.tensor([[5.0, 3.0, 1.0]]))
        tensor([[ 1.,  0., -1.]])
    """
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + 1e-7)


def row_mean(values: Tensor) -> Tensor:
    """The mean of values of rows [M, ...]; of no row 0, with a gradient."""
    return values.mean() if len(values) else values.sum()


def unit_rows(vectors: Tensor) -> Tensor:
    """Rows of length one; a row of zeros stays zero and has a finite gradient.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return F.normalize(vectors, dim=-1)


def distances(vectors: Tensor) -> Tensor:
    """Euclidean distances [B, B] between the rows of [B, D], with a zero diagonal.

    Example:
        >>> distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[0., 5.],
                [5., 0.]])
    """
    squares = (vectors * vectors).sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    # The clamp comes before the root: a root at zero has no gradient, a clamped entry has a gradient of zero.
    roots = squared.clamp_min(1e-12).sqrt()
    return roots * (1 - torch.eye(len(vectors), dtype=roots.dtype, device=roots.device))


def mean_distance(first: Tensor, second: Tensor) -> Tensor:
    """The Euclidean distance of the rows of two [B, ...], averaged over them; where it is zero its gradient is too.

    Example:
        >>> mean_distance(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(2, 2))  # 5 and 1
        tensor(3.)
    """
    return ((first - second).flatten(1).square().sum(dim=1) + 1e-12).sqrt().mean()


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two stacks of maps [B, C, H, W] to the smaller one's height and width.

    Example:
        >>> large, small = same_size(torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, 4, 4))
        >>> large.shape, small.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 5, 4, 4]))
    """
    height, width = min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1])
    return tuple(maps if maps.shape[-2:] == (height, width)  # type: ignore[return-value]
                 else F.adaptive_avg_pool2d(maps, (height, width)) for maps in (first, second))


def places(first: torch.Size, second: torch.Size) -> int:
    """How many places two maps of these shapes [C, H, W] have once `same_size` has met them."""
    return min(first[-2], second[-2]) * min(first[-1], second[-1])


def ramp(done: float, length: float) -> float:
    """A weight's warm-up: from exp(-5) at the start to 1 at `length`, along half a Gaussian (Laine and Aila 2017).

    Args:
        done: of the training, in any unit.
        length: after how much of it the weight is whole; 0 for from the start.
    """
    return math.exp(-5 * (1 - min(done / length, 1.0)) ** 2) if length > 0 else 1.0


def halving_sum(stages: Sequence[Tensor]) -> Tensor:
    """The losses of some stages, each counting half of the next: what comes last counts whole.

    Example:
        >>> halving_sum([torch.tensor(4.0), torch.tensor(4.0), torch.tensor(4.0)])
        tensor(7.)
    """
    return torch.stack([stage / 2**(len(stages) - number) for number, stage in enumerate(stages, start=1)]).sum()
