"""Losses that pictures descend until networks learn from them what they learn from many real ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["gradient_matching", "mean_matching", "ridge"]


def gradient_matching(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """How far the directions of gradients lie apart: one minus the cosine of each output's weights, summed over layers.

    Weights of one dimension (biases, normalisations) are left out. Trains what made the second.

    Source: Zhao, Mopuri, Bilen, Dataset condensation with gradient matching, ICLR 2021, section 3.2 and the authors' code.

    Args:
        real: gradients [outputs, ...] of the weights.
        made: as many, of the same shapes.

    Example:
        >>> real = [torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.ones(2)]
        >>> made = [torch.tensor([[0.0, 1.0], [0.0, 5.0]]), torch.zeros(2)]
        >>> gradient_matching(real, made)  # the first output's are at right angles, the second's the same
        tensor(1.0000)
    """
    terms = []
    for wanted, given in zip(real, made, strict=True):
        if wanted.ndim > 1:
            left, right = wanted.detach().flatten(1), given.flatten(1)
            terms.append((1 - (left * right).sum(dim=1) / (left.norm(dim=1) * right.norm(dim=1) + 1e-6)).sum())
    return torch.stack(terms).sum()


def mean_matching(real: Tensor, made: Tensor) -> Tensor:
    """The squared distances of the mean embeddings of each class, summed.

    Source: Zhao, Bilen, Dataset condensation with distribution matching, WACV 2023, equation 4.

    Args:
        real: embeddings [K, N, D], class after class.
        made: embeddings [K, M, D].

    Example:
        >>> mean_matching(torch.zeros(1, 3, 2), torch.tensor([[[1.0, 1.0], [1.0, 3.0]]]))  # of (0, 0) and (1, 2)
        tensor(5.)
    """
    return (real.detach().mean(dim=1) - made.mean(dim=1)).square().sum()


def ridge(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """The weights [D, K] of the ridge regression from features [N, D] to targets [N, K].

    The problem that is solved is of N samples, which are few.

    Example:
        >>> ridge(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.eye(2), penalty=1.0)
        tensor([[ 0.4000, -0.2000],
                [ 0.2000,  0.4000]])
    """
    inner = features @ features.T + penalty * torch.eye(len(features), dtype=features.dtype, device=features.device)
    return features.T @ torch.linalg.solve(inner, targets)
