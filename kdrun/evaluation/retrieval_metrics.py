"""Measures of embeddings: is the nearest other sample of the same class, and do cosines tell pairs of a class apart.

Conventions: N embeddings [N, D] of any length, compared by their cosine in float64; labels [N] of any classes, those of
training or others. Ties count against the network, but in the area under the ROC curve, where they count one half.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Pairs", "equal_error_rate", "mean_average_precision", "pairs", "recall_at_1", "roc_auc", "true_accept_rate"]

CHUNK = 1024  # queries compared at once


class Pairs(NamedTuple):
    """The cosines of pairs of samples: those of one class, and those of two."""

    same: Tensor
    different: Tensor


def _similarities(embeddings: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows after the others: their numbers [Q], and their cosines [Q, N] with all, -inf with themselves."""
    unit = F.normalize(embeddings.double(), dim=1)
    for rows in torch.arange(len(unit), device=unit.device).split(CHUNK):
        cosines = unit[rows] @ unit.T
        cosines[torch.arange(len(rows), device=unit.device), rows] = -torch.inf
        yield rows, cosines


def recall_at_1(embeddings: Tensor, labels: Tensor) -> float | None:
    """The share of samples whose nearest other sample is of their class.

    A sample of another class at the same distance counts as nearer. Samples that are alone in their class have nothing
    to find and ask nothing; None where all are.
    """
    right = asked = 0
    for rows, cosines in _similarities(embeddings):
        same = labels[rows][:, None] == labels[None, :]
        own = cosines.masked_fill(~same, -torch.inf).amax(dim=1)
        other = cosines.masked_fill(same, -torch.inf).amax(dim=1)
        asks = own > -torch.inf
        right, asked = right + int((asks & (own > other)).sum()), asked + int(asks.sum())
    return right / asked if asked else None


def mean_average_precision(embeddings: Tensor, labels: Tensor) -> float | None:
    """The mean over samples of the average precision of all others by falling cosine, those of other classes first in ties.

    Samples alone in their class are left out; None where all are.
    """
    total, asked = 0.0, 0
    for rows, cosines in _similarities(embeddings):
        same = labels[rows][:, None] == labels[None, :]
        # two stable sorts: by class, then by cosine
        order = same.to(torch.uint8).argsort(dim=1, stable=True)
        order = order.gather(1, cosines.gather(1, order).argsort(dim=1, descending=True, stable=True))
        order = order[:, :-1]  # the last is the sample itself, at -inf
        hits = same.gather(1, order).double()
        precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1, device=hits.device)
        count = hits.sum(dim=1)
        total += float(((precision * hits).sum(dim=1)[count > 0] / count[count > 0]).sum())
        asked += int((count > 0).sum())
    return total / asked if asked else None


def pairs(embeddings: Tensor, labels: Tensor, count: int | None = None, draws: torch.Generator | None = None) -> Pairs:
    """The cosines of pairs of samples, for verification.

    Args:
        embeddings: [N, D].
        labels: [N].
        count: how many pairs to draw, half of them of one class; every class has the same chance, however many samples it
            has. None: all pairs.
        draws: a CPU generator, where pairs are to be drawn.

    Raises:
        ValueError: there is no pair of one class, or none of two.
    """
    size = torch.unique(labels, return_counts=True)[1]
    if len(size) < 2 or int(size.max()) < 2:
        raise ValueError(f"{len(labels)} samples of {len(size)} classes make no pairs to compare; wanted two classes, one of "
                         "them with two samples")
    unit = F.normalize(embeddings.double(), dim=1)
    if count is None:
        first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
        cosines, same = (unit @ unit.T)[first, second], labels[first] == labels[second]
        return Pairs(cosines[same], cosines[~same])
    assert draws is not None
    first, second = _drawn(labels.cpu(), count // 2, draws)
    cosines = (unit[first.to(unit.device)] * unit[second.to(unit.device)]).sum(dim=1)
    return Pairs(cosines[:count // 2], cosines[count // 2:])


def _drawn(labels: Tensor, each: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """`each` pairs of one class, then as many of two: the rows of their first and second samples."""
    order = labels.argsort(stable=True)
    size = torch.unique(labels, return_counts=True)[1]
    start = size.cumsum(0) - size

    def member(of: Tensor, among: Tensor) -> Tensor:
        """A random number below `among`, from the start of each of these classes."""
        return start[of] + (torch.rand(len(of), generator=draws, dtype=torch.float64) * among).long()

    several = torch.nonzero(size > 1)[:, 0]
    own = several[torch.randint(len(several), (each,), generator=draws)]
    one, other = member(own, size[own]), member(own, size[own] - 1)
    other += other >= one  # never the sample itself
    left = torch.randint(len(size), (each,), generator=draws)
    right = torch.randint(len(size) - 1, (each,), generator=draws)
    right += right >= left  # never the same class
    return (order[torch.cat([one, member(left, size[left])])], order[torch.cat([other, member(right, size[right])])])


def roc_auc(compared: Pairs) -> float:
    """The chance that a pair of one class is closer than a pair of two; ties count one half (Hanley and McNeil 1982)."""
    different = compared.different.sort().values
    below = torch.searchsorted(different, compared.same, right=False)
    up_to = torch.searchsorted(different, compared.same, right=True)
    return float((below + up_to).double().mean() / 2 / len(different))


def true_accept_rate(compared: Pairs, far: float) -> float:
    """The share of pairs of one class that are accepted where at most `far` of those of two classes are.

    Args:
        compared: the cosines.
        far: the largest false accept rate; 0 accepts no pair of two classes.

    Raises:
        ValueError: so few pairs of two classes cannot show such a rate.
    """
    count = len(compared.different)
    if 0 < far < 1 / count:
        raise ValueError(f"a false accept rate of {far:g} cannot be measured on {count} pairs of different classes; wanted at "
                         f"least {1 / count:g}, or 0")
    accepted = int(far * count + 1e-9)
    if accepted >= count:
        return 1.0
    first_refused = compared.different.sort(descending=True).values[accepted]
    return float((compared.same > first_refused).double().mean())


def equal_error_rate(compared: Pairs) -> float:
    """Where pairs of two classes are accepted as often as pairs of one are refused, on the straight lines of the ROC curve."""
    thresholds = torch.cat([compared.same, compared.different]).unique().flip(0)
    accepted = [1 - torch.searchsorted(part.sort().values, thresholds, right=False).double() / len(part) for part in compared]
    start = torch.zeros(1, dtype=torch.float64, device=thresholds.device)
    false_accepts, false_refusals = torch.cat([start, accepted[1]]), 1 - torch.cat([start, accepted[0]])
    gap = false_accepts - false_refusals  # rises from -1 to 1
    after = int((gap >= 0).nonzero()[0])
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(false_accepts[before] + share * (false_accepts[after] - false_accepts[before]))
