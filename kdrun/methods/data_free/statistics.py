"""What a teacher's normalisation layers remember of the pictures it was trained on, and how far others are from it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdrun.methods.losses.synthetic import gaussian_kl
from kdrun.models.roles import Role

__all__ = ["normalisations", "statistics", "statistics_kl", "watched"]

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
Measured = TypeVar("Measured")


def normalisations(teacher: Role) -> list[nn.Module]:
    """The teacher's normalisation layers that remember statistics, in its own order.

    Raises:
        ValueError: it has none.
    """
    layers: list[nn.Module] = [layer for layer in teacher.modules()
                               if isinstance(layer, NORMALISATIONS) and layer.running_mean is not None]
    if not layers:
        raise ValueError(f"it reads the statistics of batch normalisation, and the teacher {teacher.model or teacher.name} "
                         "has none; choose another teacher")
    return layers


def moments(maps: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and (biased) variance of each channel of what comes into a layer, and those that it remembers: all [C]."""
    axes = [axis for axis in range(maps.ndim) if axis != 1]
    variance, mean = torch.var_mean(maps, dim=axes, correction=0)
    known_mean, known_variance = layer.running_mean, layer.running_var
    assert isinstance(known_mean, Tensor)
    assert isinstance(known_variance, Tensor)
    return mean, variance, known_mean, known_variance


def statistics(maps: Tensor, layer: nn.Module) -> Tensor:
    """How far a batch's mean and (biased) variance are from those that a normalisation remembers.

    Args:
        maps: what comes into the layer, [B, C] or [B, C, H, W].
        layer: with `running_mean` and `running_var`, both [C].

    Returns:
        The sum of two distances, not squared.
    """
    mean, variance, known_mean, known_variance = moments(maps, layer)
    return torch.linalg.vector_norm(mean - known_mean) + torch.linalg.vector_norm(variance - known_variance)


def statistics_kl(maps: Tensor, layer: nn.Module, eps: float, from_batch: bool = False) -> Tensor:
    """How far apart a batch's statistics and the remembered ones are, as normal distributions of each channel.

    Args:
        maps: what comes into the layer, [B, C] or [B, C, H, W].
        layer: with `running_mean` and `running_var`, both [C].
        eps: added to both variances.
        from_batch: whether it is KL(batch || remembered) instead of KL(remembered || batch).

    Returns:
        The divergence of each channel [C].
    """
    mean, variance, known_mean, known_variance = moments(maps, layer)
    batch, known = (mean, variance + eps), (known_mean, known_variance + eps)
    return gaussian_kl(*batch, *known) if from_batch else gaussian_kl(*known, *batch)


@contextlib.contextmanager
def watched(layers: Sequence[nn.Module], measure: Callable[[Tensor, nn.Module], Measured]) -> Iterator[list[Measured]]:
    """Collect a measure of what comes into these layers, in every pass inside the block."""
    found: list[Measured] = []
    hooks = [layer.register_forward_pre_hook(lambda own, given: found.append(measure(given[0].float(), own)))
             for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
