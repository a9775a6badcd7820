"""Networks that score how much a user likes items: matrix factorisation, and a neural form of it."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Positive
from kdrun.models.output import ModelOutput

__all__ = ["MF", "NeuMF"]


class MF(nn.Module):
    """Matrix factorisation: a user's vector times an item's, and how popular the item is (Koren, Bell and Volinsky 2009).

    The embedding that it shows is the user's vector followed by that of the first item of the list.

    Args:
        width: coordinates of a vector.
        std: of the first vectors; the popularity starts at 0.
        users: how many there are.
        items: likewise.
    """

    inputs: ClassVar[str] = "pairs"
    tasks: ClassVar[tuple[str, ...]] = ("ranking",)

    def __init__(self, *, width: AtLeastOne, std: Positive, users: int, items: int) -> None:
        super().__init__()
        self.user, self.item, self.popularity = nn.Embedding(users, width), nn.Embedding(items, width), nn.Embedding(items, 1)
        for vectors in (self.user, self.item):
            nn.init.normal_(vectors.weight, std=std)
        nn.init.zeros_(self.popularity.weight)

    def forward(self, pairs: Tensor) -> ModelOutput:
        """The scores [B, n] of users and items [B, 1 + n] int64."""
        user, items = self.user(pairs[:, 0]), self.item(pairs[:, 1:])
        scores = torch.bmm(items, user[:, :, None])[:, :, 0] + self.popularity(pairs[:, 1:])[:, :, 0]
        return ModelOutput(scores, torch.cat([user, items[:, 0]], dim=1))


class NeuMF(nn.Module):
    """Neural matrix factorisation: a product of vectors beside a perceptron on others, under one linear layer (He et al. 2017).

    The embedding that it shows is both vectors of the user followed by both of the first item of the list. It is trained
    in one go; the paper's first training of its two halves alone is left out.

    Args:
        width: coordinates of the vectors that are multiplied.
        widths: of the perceptron's layers; its own vectors have half of the first, the last one is what is joined.
        std: of the first vectors.
        users: how many there are.
        items: likewise.

    Raises:
        ValueError: no layer, or a first layer that cannot be halved.
    """

    inputs: ClassVar[str] = "pairs"
    tasks: ClassVar[tuple[str, ...]] = ("ranking",)

    def __init__(self, *, width: AtLeastOne, widths: list[AtLeastOne], std: Positive, users: int, items: int) -> None:
        super().__init__()
        if not widths or widths[0] % 2:
            raise ValueError(f"widths is {widths}; wanted a first layer of an even width, half for the user and half for the "
                             "item")
        self.width, half = width, widths[0] // 2
        self.user, self.item = nn.Embedding(users, width + half), nn.Embedding(items, width + half)
        for vectors in (self.user, self.item):
            nn.init.normal_(vectors.weight, std=std)
        self.layers = nn.ModuleList(nn.Linear(before, after)
                                    for before, after in zip([widths[0], *widths], widths, strict=False))
        self.head = nn.Linear(width + widths[-1], 1)

    def forward(self, pairs: Tensor) -> ModelOutput:
        """The scores [B, n] of users and items [B, 1 + n] int64."""
        user, items = self.user(pairs[:, :1]), self.item(pairs[:, 1:])
        product = user[..., :self.width] * items[..., :self.width]
        hidden = torch.cat([user[..., self.width:].expand(-1, items.shape[1], -1), items[..., self.width:]], dim=2)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        scores = self.head(torch.cat([product, hidden], dim=2))[:, :, 0]
        return ModelOutput(scores, torch.cat([user[:, 0], items[:, 0]], dim=1))
