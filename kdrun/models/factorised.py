"""Layers of low rank: two smaller ones in the place of a convolution or a linear layer."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Bounds

__all__ = ["Energy", "Form", "dominant_kernels", "factorised", "least_rank"]

Energy = Annotated[float, Bounds(above=0, most=1)]
Form = Literal["channel", "spatial"]


def least_rank(singular: Tensor, energy: float) -> int:
    """How many of some singular values, largest first, have a share of the sum of all their squares.

    Example:
        >>> least_rank(torch.tensor([3.0, 2.0, 1.0]), 0.9)  # 13 of 14
        2
    """
    squares = singular.double().square()
    held = squares.cumsum(0) / squares.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return min(int((held < energy * (1 - 1e-9)).sum()) + 1, len(singular))


def factorised(layer: nn.Module, form: Form, energy: float) -> nn.Sequential | None:
    """Two layers, one behind the other, nearest to a convolution or linear layer by singular values.

    `channel`: a convolution of the same size to r channels, then 1x1. `spatial`: a column of the kernel to r channels, then a
    row of it (Jaderberg et al. 2014). Of a linear layer, and of a 1x1 convolution under `channel`, two of its kind. The bias
    is the second's.

    Args:
        layer: stays as it is.
        form: of a convolution.
        energy: share of the squared singular values that r has to keep.

    Returns:
        None where that saves no weights, or the layer is of another kind.
    """
    if isinstance(layer, nn.Linear):
        left, right = halves(layer.weight, energy)
        pair: tuple[nn.Linear | nn.Conv2d, nn.Linear | nn.Conv2d] = (
            nn.Linear(layer.in_features, len(right), bias=False),
            nn.Linear(len(right), layer.out_features, bias=layer.bias is not None))
        weights = right, left
    elif isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1) and \
            not isinstance(layer.padding, str):
        (after, before, high, wide), biased = layer.weight.shape, layer.bias is not None
        (down, along), padding = layer.stride, layer.padding[:2]
        if form == "channel":
            left, right = halves(layer.weight.flatten(1), energy)
            pair = (nn.Conv2d(before, len(right), (high, wide), (down, along), (padding[0], padding[1]), bias=False),
                    nn.Conv2d(len(right), after, 1, bias=biased))
            weights = right.view(-1, before, high, wide), left[:, :, None, None]
        elif high == wide == 1:
            return None
        else:
            matrix = layer.weight.permute(0, 3, 1, 2).reshape(after * wide, before * high)
            left, right = halves(matrix, energy)
            pair = (nn.Conv2d(before, len(right), (high, 1), (down, 1), (padding[0], 0), bias=False),
                    nn.Conv2d(len(right), after, (1, wide), (1, along), (0, padding[1]), bias=biased))
            weights = right.view(-1, before, high, 1), left.view(after, wide, -1).permute(0, 2, 1)[:, :, None, :]
    else:
        return None
    if sum(weight.numel() for weight in weights) >= layer.weight.numel():
        return None
    with torch.no_grad():
        for part, weight in zip(pair, weights, strict=True):
            part.weight.copy_(weight)
        if layer.bias is not None:
            assert pair[1].bias is not None
            pair[1].bias.copy_(layer.bias)
    return nn.Sequential(*pair).to(layer.weight.device)


def dominant_kernels(layer: nn.Module, count: int) -> nn.Sequential | None:
    """So many kernels for each channel that comes in, and 1x1 across all that they answer, nearest to a convolution.

    The kernels of a channel are those of its largest singular values: as many as a kernel has places, and it is the same
    convolution.

    Args:
        layer: stays as it is.
        count: kernels a channel; of fewer places or channels, as many as these are.

    Returns:
        None where that saves no weights, or the layer is no convolution over places, or has groups.
    """
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.dilation != (1, 1) or isinstance(layer.padding, str):
        return None
    after, before, high, wide = layer.weight.shape
    count = min(count, high * wide, after)
    if high == wide == 1 or before * count * (high * wide + after) >= layer.weight.numel():
        return None
    return nn.Sequential(*parted(layer, count))


def parted(layer: nn.Conv2d, count: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Both layers of `dominant_kernels`, whether or not they save weights."""
    (after, before, high, wide), (down, along), padding = layer.weight.shape, layer.stride, layer.padding
    assert not isinstance(padding, str)
    place = layer.weight.device
    kernels = nn.Conv2d(before, before * count, (high, wide), (down, along), (padding[0], padding[1]), groups=before,
                        bias=False, device=place)
    across = nn.Conv2d(before * count, after, 1, bias=layer.bias is not None, device=place)
    left, singular, right = torch.linalg.svd(layer.weight.detach().double().transpose(0, 1).flatten(2), full_matrices=False)
    roots = singular[:, :count].sqrt()  # [before, count]; the matrices are [before, after, places]
    with torch.no_grad():
        kernels.weight.copy_((roots[..., None] * right[:, :count]).reshape(-1, 1, high, wide))
        across.weight.copy_((left[..., :count] * roots[:, None]).permute(1, 0, 2).reshape(after, -1, 1, 1))
        if layer.bias is not None:
            assert across.bias is not None
            across.bias.copy_(layer.bias)
    return kernels, across


def halves(matrix: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """L [m, r] and R [r, n] of a matrix [m, n], whose product is nearest to it; each has the roots of the singular values."""
    left, singular, right = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
    rank = least_rank(singular, energy)
    roots = singular[:rank].sqrt()
    return (left[:, :rank] * roots).to(matrix), (roots[:, None] * right[:rank]).to(matrix)
