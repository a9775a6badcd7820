"""A classifier that compares directions alone, in place of a network's own."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.models.tapped import Tapped

__all__ = ["CosineHead", "with_cosine_head"]


class CosineHead(nn.Module):
    """Logits that are cosines of the embedding and of one or more vectors (proxies) for each class, times a scale.

    The cosine with a class of several proxies is the mean of those with its proxies, weighted by their softmax (Douillard
    et al. 2020, equation 8).

    Args:
        in_features: of the embedding.
        out_features: how many classes.
        scale: the factor.
        learned: whether the scale learns too.
        proxies: of each class.

    Attributes:
        still: marks the rows of the weight that do not learn, [K * proxies]; None for none. It is not stored.
    """

    scale: Tensor | float
    still: Tensor | None

    def __init__(self, in_features: int, out_features: int, scale: float, *, learned: bool = False, proxies: int = 1) -> None:
        super().__init__()
        self.told = {"in_features": in_features, "out_features": out_features, "scale": scale, "learned": learned,
                     "proxies": proxies}
        self.in_features, self.out_features, self.proxies = in_features, out_features, proxies
        self.scale = nn.Parameter(torch.tensor(float(scale))) if learned else scale
        self.weight = nn.Parameter(torch.empty(out_features * proxies, in_features))
        self.register_buffer("still", None, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As a linear layer's; only the directions matter."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return dict(self.told)

    def rows(self, classes: Tensor) -> Tensor:
        """Which rows of the weight are the proxies of these classes."""
        return (classes[:, None] * self.proxies + torch.arange(self.proxies, device=classes.device)).flatten()

    def keep_still(self, classes: Tensor | None) -> None:
        """Have the proxies of these classes learn nothing from now on, and all others learn; None for no class."""
        still = torch.zeros(len(self.weight), dtype=torch.bool, device=self.weight.device)
        self.still = None if classes is None else still.index_fill_(0, self.rows(classes), True)

    def cosines(self, embedding: Tensor) -> Tensor:
        """From [B, D] to [B, K]: what the scale multiplies."""
        weight = self.weight if self.still is None else torch.where(self.still[:, None], self.weight.detach(), self.weight)
        each = F.linear(F.normalize(embedding, dim=1), F.normalize(weight, dim=1))
        if self.proxies == 1:
            return each
        each = each.unflatten(1, (self.out_features, self.proxies))
        return (each.softmax(dim=2) * each).sum(dim=2)

    def forward(self, embedding: Tensor) -> Tensor:
        """From [B, D] to [B, K]."""
        return self.scale * self.cosines(embedding)


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
