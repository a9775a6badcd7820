"""A classifier that compares directions alone, in place of a network's own."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.models.tapped import Tapped

__all__ = ["CosineHead", "with_cosine_head"]


class CosineHead(nn.Module):
    """Logits that are cosines of the embedding and of a vector for each class, times a constant.

    Args:
        in_features: of the embedding.
        out_features: how many classes.
        scale: the constant.
    """

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scale = in_features, out_features, scale
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As a linear layer's; only the directions matter."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, embedding: Tensor) -> Tensor:
        """From [B, D] to [B, K]."""
        return self.scale * F.linear(F.normalize(embedding, dim=1), F.normalize(self.weight, dim=1))


def with_cosine_head(network: nn.Module, scale: float) -> nn.Module:
    """The network with its last linear layer replaced by a new `CosineHead`.

    Raises:
        ValueError: it does not tell which layer that is, or that layer is not linear.
    """
    holder: Any = network
    name = "head"
    if isinstance(network, Tapped):
        place, _, name = (network.plan.head or "").rpartition(".")
        holder = network.wrapped.get_submodule(place)
    old = getattr(holder, name, None) if name else None
    if not isinstance(old, nn.Linear):
        raise ValueError(f"{type(network).__name__} has no linear layer as its classifier, so it cannot have a cosine one; "
                         "set dataset.head=linear, or choose another network")
    setattr(holder, name, CosineHead(old.in_features, old.out_features, scale))
    return network
