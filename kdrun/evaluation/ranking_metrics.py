"""Measures of recommendation from implicit feedback: each user's items are ranked, and the held-out ones looked up.

Conventions: U users, I items; a row of items is padded with -1 at its end. Everything is computed in the scores' own
precision and averaged once, over the users that have a held-out item. Ties are pessimistic: of equal scores the relevant
item comes last, so a network that scores everything alike scores 0 (with the expected rank it would score above chance).
"""

import torch
from torch import Tensor

__all__ = ["candidates", "hit_rate", "mean_reciprocal_rank", "ndcg", "ranks", "recall", "sampled_candidates"]


def candidates(excluded: Tensor, items: int) -> Tensor:
    """Which items are ranked for each user: all but the excluded ones.

    Args:
        excluded: [U, E] item numbers, -1 where a row has no more: what the user is known to like from training.
        items: how many there are, I.

    Returns:
        [U, I] bool.
    """
    allowed = torch.ones(len(excluded), items + 1, dtype=torch.bool, device=excluded.device)
    allowed.scatter_(1, torch.where(excluded < 0, items, excluded), False)  # the padding falls into the extra column
    return allowed[:, :items]


def sampled_candidates(allowed: Tensor, positives: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """The held-out items and `count` others a user, drawn without replacement: cheaper, and not the same measure.

    Which of two networks is better can change with the sample (Krichene and Rendle, On sampled metrics for item
    recommendation, KDD 2020), so what is measured on it has another name.

    Args:
        allowed: [U, I] bool, the items to draw from.
        positives: [U, P] held-out items, -1 where a row has no more; they are always among the result.
        count: how many others; all there are where there are fewer.
        draws: a CPU generator.

    Returns:
        [U, I] bool.
    """
    users, items = allowed.shape
    relevant = ~candidates(positives, items)
    keys = torch.rand(users, items, generator=draws).to(allowed.device)
    keys[~allowed | relevant] = -1
    chosen = keys.topk(min(count, items), dim=1)
    return torch.zeros_like(allowed).scatter_(1, chosen.indices, chosen.values >= 0) | relevant


def ranks(scores: Tensor, positives: Tensor, allowed: Tensor) -> Tensor:
    """The place of each held-out item in its user's ranking, from 1 for the best.

    An item's place is the number of candidates that score no lower, itself among them; of several held-out items with one
    score each has a place of its own.

    Args:
        scores: [U, I].
        positives: [U, P] held-out items, -1 where a row has no more.
        allowed: [U, I] bool, the candidates; held-out items are candidates in any case.

    Returns:
        [U, P] int64 in the order of `positives`; 0 where there is no item.

    Raises:
        ValueError: a score is NaN.
    """
    if bool(torch.isnan(scores).any()):
        raise ValueError(f"{int(torch.isnan(scores).any(dim=1).sum())} of {len(scores)} users have scores that are NaN; "
                         "nothing can be ranked by them")
    there = positives >= 0
    own = scores.gather(1, positives.clamp_min(0))
    others = allowed & candidates(positives, scores.shape[1])
    place = torch.zeros_like(positives)
    for column in range(positives.shape[1]):
        score = own[:, column:column + 1]
        before = (own > score) | ((own == score) & (torch.arange(own.shape[1], device=own.device) < column))
        place[:, column] = 1 + ((scores >= score) & others).sum(dim=1) + (before & there).sum(dim=1)
    return place * there


def ndcg(places: Tensor, top: int) -> float | None:
    """The normalised discounted cumulative gain of the first `top` places (Jarvelin and Kekalainen 2002), binary relevance.

    Args:
        places: [U, P], as `ranks` gives them.
        top: how many places count.

    Returns:
        The mean over users with a held-out item of the gain over that of the best ranking, which has min(P, top) items;
        None where no user has one.
    """
    discount = 1 / torch.log2(torch.arange(2, top + 2, dtype=torch.float64, device=places.device))
    gain = torch.where(_within(places, top), 1 / torch.log2(places.double() + 1), 0.0).sum(dim=1)
    best = discount.cumsum(0)[(places > 0).sum(dim=1).clamp(1, top) - 1]
    return _mean(gain / best, places)


def hit_rate(places: Tensor, top: int) -> float | None:
    """The share of users with a held-out item among their first `top`; arguments as of `ndcg`."""
    return _mean(_within(places, top).any(dim=1).double(), places)


def recall(places: Tensor, top: int) -> float | None:
    """The share of a user's held-out items that are among the first `top`, averaged over users; arguments as of `ndcg`."""
    return _mean(_within(places, top).sum(dim=1) / (places > 0).sum(dim=1).clamp_min(1).double(), places)


def mean_reciprocal_rank(places: Tensor) -> float | None:
    """One over the place of a user's first held-out item, averaged over users; `places` as of `ndcg`."""
    return _mean(torch.where(places > 0, 1 / places.double(), 0.0).amax(dim=1), places)


def _within(places: Tensor, top: int) -> Tensor:
    return (places > 0) & (places <= top)


def _mean(values: Tensor, places: Tensor) -> float | None:
    """The mean of values [U] over the users that have a held-out item."""
    counted = (places > 0).any(dim=1)
    return float(values[counted].double().mean()) if bool(counted.any()) else None
