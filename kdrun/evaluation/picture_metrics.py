"""How good made pictures are beside real ones: coverage, density and the Fréchet distance, on features [N, D].

Sources: Naeem, Oh, Uh, Choi, Yoo: Reliable fidelity and diversity metrics for generative models. ICML 2020 (coverage and
density); Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs trained by a two time-scale update rule converge to a local
Nash equilibrium. NeurIPS 2017 (the distance, there on features of an Inception network).
"""

import torch
from torch import Tensor

__all__ = ["class_logits", "coverage_and_density", "frechet_distance", "principal_features"]


def principal_features(real: Tensor, made: Tensor, most: int = 64) -> tuple[Tensor, Tensor]:
    """Pixels, or the first principal components of the real ones where there are more than `most`: float64 [N, D], [M, D]."""
    known, other = real.flatten(1).double(), made.flatten(1).double()
    if known.shape[1] <= most:
        return known, other
    mean = known.mean(dim=0)
    axes = torch.linalg.svd(known - mean, full_matrices=False).Vh[:most]
    return (known - mean) @ axes.T, (other - mean) @ axes.T


def coverage_and_density(real: Tensor, made: Tensor, neighbours: int) -> tuple[float, float]:
    """Which share of real samples has a made one nearer than its k-th real neighbour, and how densely made ones lie there.

    Args:
        real: features [N, D] of two samples or more.
        made: likewise [M, D].
        neighbours: k; at most N - 1 count.

    Returns:
        The coverage, from 0 to 1, and the density, about 1 where both are of one distribution.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
        >>> coverage_and_density(real, torch.tensor([[0.5], [0.2]]), 1)
        (0.5, 1.0)
    """
    neighbours = min(neighbours, len(real) - 1)
    among = torch.cdist(real, real).fill_diagonal_(torch.inf)
    radius = among.kthvalue(neighbours, dim=1).values
    inside = torch.cdist(real, made) < radius[:, None]
    return float(inside.any(dim=1).double().mean()), float(inside.double().sum(dim=0).mean() / neighbours)


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """The Fréchet distance between the Gaussians of two sets of features [N, D], [M, D]; 0 for the same mean and covariance.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
        >>> round(frechet_distance(corners, 2 * corners + torch.tensor([3.0, 0.0])), 6)
        11.666667
    """
    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp_min(0).sqrt() @ vectors.T

    first, second = real.T.cov(), made.T.cov()
    half = root(first)
    cross = torch.linalg.eigvalsh(half @ second @ half).clamp_min(0).sqrt().sum()
    gap = (real.mean(dim=0) - made.mean(dim=0)).square().sum()
    return float((gap + first.trace() + second.trace() - 2 * cross).clamp_min(0))


def class_logits(real: Tensor, labels: Tensor, made: Tensor, classes: int) -> Tensor:
    """Of which class made samples are, by the nearest real sample of each: minus its squared distance, [M, classes].

    The unit is twice the squared median distance of a real sample from its nearest one, so that a softmax is a kernel of that
    width. A class without a real sample has the least of all.

    Args:
        real: features [N, D].
        labels: theirs [N].
        made: features [M, D].
        classes: how many there are.
    """
    among = torch.cdist(real, real).fill_diagonal_(torch.inf)
    width = among.min(dim=1).values.median().clamp_min(1e-12)
    squared = torch.cdist(made, real).square() / (2 * width.square())
    columns = [squared[:, labels == label].min(dim=1).values if bool((labels == label).any()) else squared.amax(dim=1)
               for label in range(classes)]
    return -torch.stack(columns, dim=1)
