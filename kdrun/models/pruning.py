"""Weights and channels that are left out of a network: which, and what those take that are left.

Weights that are left out one by one are zeros: they take no bits where they lie close together, and as much time and memory
as ever. Channels that are cut are gone.
"""

import torch
from torch import Tensor, nn

from kdrun.models.channels import Channels, channels_of, strongest
from kdrun.models.quantization import Quantizer

__all__ = ["Masked", "cuttable", "magnitude_masks", "prunable_layers", "slim_channels", "sparse_bits", "strong_filters"]

LAYERS = (nn.Conv2d, nn.Linear)
GAP = 256  # places that an index of 8 bits can skip, itself included


def sparse_bits(kept: Tensor, bits: int) -> int:
    """What the weights of a layer take of which some are zeros, by the smallest of three ways of writing them.

    All of them; a bit for each place and the weights that are left; or each of those behind 8 bits that say how many places
    it skips, with a zero written in between where it would be 256 or more (Han, Mao and Dally, Deep compression, ICLR 2016).

    Args:
        kept: which are left, any shape.
        bits: of a weight.

    Example:
        >>> kept = torch.zeros(1000)
        >>> kept[::10] = 1
        >>> sparse_bits(kept, 32), sparse_bits(kept, 4)
        (4000, 1200)
    """
    places = kept.flatten().nonzero().flatten()
    skipped = torch.diff(places, prepend=places.new_full((1,), -1)) - 1
    written = len(places) + int((skipped // GAP).sum())
    return min(bits * kept.numel(), kept.numel() + bits * len(places), (bits + 8) * written)


class Masked(Quantizer):
    """Weights some of which are zero whatever becomes of them, and the others as another quantizer sees them.

    Args:
        kept: 1 for those that are left, 0 for the others; the shape of the weights.
        inner: quantises; None where nothing does.
    """

    kept: Tensor

    def __init__(self, kept: Tensor, inner: Quantizer | None) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("kept", kept)

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape; zeros behind the quantizer too, which may have no level there."""
        left = weights * self.kept
        return left if self.inner is None else self.inner(left) * self.kept

    def stored_bits(self, count: int) -> int:
        """What the weights take with what else the quantizer needs to read them."""
        bits = 32 if self.inner is None else getattr(self.inner, "bits", 32)
        scales = 0 if self.inner is None else self.inner.stored_bits(count) - bits * count
        return sparse_bits(self.kept, bits) + scales


def prunable_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The convolutions and linear layers of a network, by name.

    Raises:
        ValueError: there are none.
    """
    found: dict[str, nn.Module] = {name: layer for name, layer in network.named_modules() if isinstance(layer, LAYERS)}
    if not found:
        raise ValueError(f"{type(network).__name__} has no convolution or linear layer to compress; choose another student")
    return found


def magnitude_masks(network: nn.Module, amount: float) -> dict[str, Tensor]:
    """Which weights of all convolutions and linear layers stay when the smallest share of them goes, by layer.

    Args:
        network: any; weights that are zero are the first to go.
        amount: the share, of all layers together.
    """
    layers = {name: layer.get_parameter("weight").detach() for name, layer in prunable_layers(network).items()}
    sizes = torch.cat([weight.abs().flatten() for weight in layers.values()])
    kept = torch.ones_like(sizes)
    kept[sizes.argsort(stable=True)[:round(amount * len(sizes))]] = 0
    parts = kept.split([weight.numel() for weight in layers.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(layers.items(), parts, strict=True)}


def cuttable(network: nn.Module) -> list[Channels]:
    """The channels that can go without others: no sum of a residual network needs them.

    Raises:
        ValueError: the network's channels cannot be followed, or there are none.
    """
    found = [one for one in channels_of(network)[1:-1] if len(one.outputs) == 1 and one.inputs and one.count > 1]
    if not found:
        raise ValueError(f"{type(network).__name__} has no channels that could go without others")
    return found


def strong_filters(network: nn.Module, amount: float) -> dict[Channels, Tensor]:
    """Of each group of channels that can go, those that stay when a share with the smallest filters goes (Li et al. 2017)."""
    return {one: strongest(network, one, max(1, round((1 - amount) * one.count))) for one in cuttable(network)}


def slim_channels(network: nn.Module, amount: float) -> dict[Channels, Tensor]:
    """Those that stay whose normalisation weighs more than a share of all weights of normalisations (Liu et al. 2017).

    Of each group of channels that can go at least one stays.
    """
    weights = torch.cat([part.weight.detach().abs() for part in network.modules() if isinstance(part, nn.BatchNorm2d)])
    threshold = weights.sort().values[min(round(amount * len(weights)), len(weights) - 1)]
    found = {}
    for one in cuttable(network):
        if one.norms:
            scales = [network.get_submodule(name).get_parameter("weight").detach().abs() for name in one.norms]
            own = torch.stack(scales).amax(dim=0)
            kept = (own > threshold).nonzero().flatten()
            found[one] = kept if len(kept) else own.argmax()[None]
    return found
