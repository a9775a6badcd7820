"""Clusters of vectors."""

import torch
from torch import Tensor

__all__ = ["kmeans", "purity"]


def kmeans(vectors: Tensor, count: int, rounds: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from the starting points of k-means++ (Arthur and Vassilvitskii 2007), in float64 on the CPU.

    A cluster that becomes empty begins anew at the vector that is farthest from its centre.

    Args:
        vectors: [N, D].
        count: of clusters, at most N.
        rounds: at most so many.
        draws: what the starting points are drawn from.

    Returns:
        The cluster [N] of each vector, and the centres [count, D].

    Raises:
        ValueError: there are fewer vectors than clusters.
    """
    if count > len(vectors):
        raise ValueError(f"{count} clusters of {len(vectors)} samples; wanted at most as many clusters")
    points = vectors.detach().cpu().double()
    centres = points[torch.randint(len(points), (1,), generator=draws)]
    for _ in range(count - 1):
        near = torch.cdist(points, centres).amin(dim=1).square()
        chances = near if near.sum() > 0 else torch.ones_like(near)
        centres = torch.cat([centres, points[torch.multinomial(chances, 1, generator=draws)]])
    own = torch.full((len(points),), -1)
    for _ in range(rounds):
        apart, nearest = torch.cdist(points, centres).min(dim=1)
        for empty in (torch.bincount(nearest, minlength=count) == 0).nonzero()[:, 0].tolist():
            farthest = int(torch.where(torch.bincount(nearest, minlength=count)[nearest] > 1, apart, -1).argmax())
            nearest[farthest], apart[farthest] = empty, 0
        if torch.equal(nearest, own):
            break
        own = nearest
        centres = torch.zeros_like(centres).index_add(0, own, points) / torch.bincount(own, minlength=count)[:, None]
    return own, centres


def purity(clusters: Tensor, labels: Tensor) -> float:
    """The share of samples that are of the commonest label of their cluster.

    Args:
        clusters: [N].
        labels: [N].

    Example:
        >>> purity(torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 5, 5]))
        0.75
    """
    table = torch.zeros(int(clusters.max()) + 1, int(labels.max()) + 1, dtype=torch.int64)
    table.index_put_((clusters.cpu(), labels.cpu()), torch.ones(len(labels), dtype=torch.int64), accumulate=True)
    return float(table.amax(dim=1).sum()) / len(labels)
