"""Weights and activations of few bits: quantised while a network learns, baked in when it has learnt.

Quantisation is simulated: a baked network computes in float32 with values that a few bits can tell apart, and its
`stored_size` is what packing them would take. Shares of the gradient that rounding would stop pass straight through it.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdrun.config.constraints import Bounds
from kdrun.evaluation.metrics import Size
from kdrun.models.description import COMPOSED, node_of

__all__ = ["Bits", "Bucketed", "Learned", "LearnedInput", "QuantizedWeights", "Quantizer", "Stepped", "Ternary", "Wrpn",
           "buckets", "clipped", "inner_layers", "least_squares_step", "linear", "rounded", "scale_bits", "ternary",
           "with_learned_inputs", "wrpn"]

Bits = Annotated[int, Bounds(least=1, most=16)]


class Round(torch.autograd.Function):
    """To the nearest whole number; the gradient passes as if nothing had been rounded."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Any shape."""
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Straight through."""
        return gradients[0]


def buckets(weights: Tensor, size: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Cut weights into runs of `size` and bring each from its own range to [0, 1].

    Args:
        weights: any shape, n values.
        size: of a bucket; None for a single one.

    Returns:
        The scaled weights [buckets, size] (the last bucket is filled up with its last weight), and the span and the
        lowest weight of each bucket [buckets, 1]. A constant bucket has the span 1, so that it stays as it is.
    """
    flat = weights.flatten()
    size = min(size or len(flat), len(flat))
    rows = torch.cat([flat, flat[-1:].expand(-len(flat) % size)]).view(-1, size)
    low = rows.detach().amin(dim=1, keepdim=True)
    span = rows.detach().amax(dim=1, keepdim=True) - low
    span = torch.where(span > 0, span, torch.ones_like(span))
    return (rows - low) / span, span, low


def linear(weights: Tensor, bits: int, bucket: int | None) -> Tensor:
    """Equally distant levels between the extremes of each bucket (Polino et al. 2018, section 2.1)."""
    scaled, span, low = buckets(weights, bucket)
    steps = 2**bits - 1
    levels = Round.apply(scaled * steps) / steps
    return (levels * span + low).flatten()[:weights.numel()].view_as(weights)


def wrpn(weights: Tensor, bits: int) -> Tensor:
    """Clip to [-1, 1] and round to multiples of 1 / (2^(bits - 1) - 1), so that zero is a level (Mishra et al. 2018)."""
    steps = 2 ** (bits - 1) - 1
    return Round.apply(weights.clamp(-1, 1) * steps) / steps


def ternary(weights: Tensor) -> Tensor:
    """Weights as -a, 0 and a: 0 up to 0.7 of their mean size, a the mean size of the others (Li, Zhang and Liu 2016)."""
    sizes = weights.detach().abs()
    kept = sizes > 0.7 * sizes.mean()
    level = (sizes * kept).sum() / kept.sum().clamp_min(1)
    rounded = level * weights.detach().sign() * kept
    return rounded + (weights - weights.detach())  # the gradient passes as if nothing had been rounded


def rounded(values: Tensor, step: Tensor | float) -> Tensor:
    """The nearest multiples of a step; the gradient passes as if nothing had been rounded."""
    return Round.apply(values / step) * step


def least_squares_step(weights: Tensor, most: int, rounds: int = 20) -> Tensor:
    """The step whose multiples from -most to most are nearest to weights by least squares (Hwang and Sung 2014).

    It is found in turns: each weight takes its nearest multiple, and the step then becomes the best for these.
    """
    step = weights.abs().mean().clamp_min(torch.finfo(weights.dtype).tiny) * 2 / most**0.5
    for _ in range(rounds):
        codes = (weights / step).round().clamp(-most, most)
        taken = codes.square().sum()
        step = torch.where(taken > 0, (weights * codes).sum() / taken.clamp_min(1), step)
    return step


def clipped(activations: Tensor, bits: int) -> Tensor:
    """Activations clipped to [0, 1] and rounded to 2^bits levels (Mishra et al. 2018)."""
    steps = 2**bits - 1
    return Round.apply(activations.clamp(0, 1) * steps) / steps


class Quantizer(nn.Module):
    """What the weights of one layer are seen through."""

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape, quantised."""
        raise NotImplementedError

    def stored_bits(self, count: int) -> int:
        """What so many weights take, with everything needed to read them."""
        raise NotImplementedError


class Bucketed(Quantizer):
    """`linear`: each bucket stores its span and its lowest weight in float32."""

    def __init__(self, bits: int, bucket: int | None) -> None:
        super().__init__()
        self.bits, self.bucket = bits, bucket

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape, quantised."""
        return linear(weights, self.bits, self.bucket)

    def stored_bits(self, count: int) -> int:
        """What so many weights take."""
        return count * self.bits + scale_bits(count, self.bucket)


def scale_bits(count: int, bucket: int | None) -> int:
    """What the two float32 numbers of each bucket of so many weights take."""
    return ceil(count / (bucket or count)) * 2 * 32


class Wrpn(Quantizer):
    """`wrpn`: the levels are the same for every layer and need no storage."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        assert bits > 1
        self.bits = bits

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape, quantised."""
        return wrpn(weights, self.bits)

    def stored_bits(self, count: int) -> int:
        """What so many weights take."""
        return count * self.bits


class Ternary(Quantizer):
    """`ternary`: two bits a weight and the one size of a layer, in float32."""

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape, quantised."""
        return ternary(weights)

    def stored_bits(self, count: int) -> int:
        """What so many weights take."""
        return 2 * count + 32


class Stepped(Quantizer):
    """Multiples of one step for a layer, which is the best for its weights at first and stays (Hwang and Sung 2014).

    Args:
        weights: the layer's.
        bits: of a weight, at least 2; 2 is ternary.
    """

    step: Tensor

    def __init__(self, weights: Tensor, bits: int) -> None:
        super().__init__()
        assert bits > 1
        self.bits, self.most = bits, 2 ** (bits - 1) - 1
        self.register_buffer("step", least_squares_step(weights.detach(), self.most))

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape, quantised."""
        limits = self.most * self.step
        kept = weights + (weights.clamp(-limits, limits) - weights).detach()  # beyond the last level the gradient passes too
        return rounded(kept, self.step)

    def stored_bits(self, count: int) -> int:
        """What so many weights and the step take."""
        return count * self.bits + 32


class Learned(Quantizer):
    """Equally distant levels between -r and r, where r learns (Kim et al. 2019): the range of Jung et al. 2019 from zero on.

    Args:
        weights: the layer's; the range is that of LSQ's first step (Esser et al. 2020) for them.
        bits: of a weight, at least 2.
    """

    def __init__(self, weights: Tensor, bits: int) -> None:
        super().__init__()
        assert bits > 1
        self.bits, self.steps = bits, 2 ** (bits - 1) - 1
        self.reach = nn.Parameter(first_reach(weights.detach(), self.steps))

    def forward(self, weights: Tensor) -> Tensor:
        """Weights of the same shape, quantised."""
        reach = self.reach.clamp_min(LEAST)
        return rounded((weights / reach).clamp(-1, 1), 1 / self.steps) * reach

    def stored_bits(self, count: int) -> int:
        """What so many weights and their range take."""
        return count * self.bits + 32


LEAST = 1e-6  # of a range that learns, so that it stays above zero


def first_reach(values: Tensor, steps: int) -> Tensor:
    """Where a range ends of so many steps from zero, before it learns (Esser et al. 2020, section 2.1)."""
    return (2 * values.abs().mean() * steps**0.5).clamp_min(LEAST)


class LearnedInput(nn.Module):
    """What comes into a layer, clipped to [0, r] and rounded to 2^bits levels, where r learns (Kim et al. 2019).

    Args:
        bits: of a value.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.steps = 2**bits - 1
        self.reach = nn.Parameter(torch.ones(()))

    def start(self, seen: Tensor) -> None:
        """Set the range by what came in once."""
        with torch.no_grad():
            self.reach.copy_(first_reach(seen, self.steps))

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same shape, quantised."""
        reach = self.reach.clamp_min(LEAST)
        return rounded((values / reach).clamp(0, 1), 1 / self.steps) * reach


def inner_layers(network: nn.Module, ends: bool) -> list[nn.Module]:
    """The convolutions and linear layers in the order in which a network lists them.

    Args:
        network: any.
        ends: whether the first and the last belong to them.

    Raises:
        ValueError: there are none.
    """
    layers: list[nn.Module] = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    layers = layers if ends else layers[1:-1]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no convolution or linear layer between its first and its last; "
                         "set method.quantize_first_last=true or choose another student")
    return layers


class QuantizedWeights:
    """The weights of a network's layers, seen through quantizers from now until `bake`.

    The float32 weights stay underneath: they are what optimizers move and checkpoints hold. Biases and normalisation
    stay in float32. The network gets a `stored_size` of its own.

    Args:
        network: whose layers; changed in place.
        ends: whether the first and the last layer are quantised too.
        quantizers: from a layer's weights to what quantises them, one for all layers or one each.
        activations: bits of what comes into each of these layers; None leaves it alone. Lasts beyond `bake`.

    Raises:
        ValueError: the network has no such layers.
    """

    def __init__(self, network: nn.Module, *, ends: bool, quantizers: Callable[[Tensor], Quantizer] | list[Quantizer],
                 activations: int | None = None) -> None:
        self.layers = inner_layers(network, ends)
        weights = [layer.get_parameter("weight") for layer in self.layers]
        made = quantizers if isinstance(quantizers, list) else [quantizers(weight.detach()) for weight in weights]
        everything = list(network.parameters())
        bits = sum(8 * weight.numel() * weight.element_size() for weight in everything)
        for layer, weight, quantizer in zip(self.layers, weights, made, strict=True):
            bits += quantizer.stored_bits(weight.numel()) - 8 * weight.numel() * weight.element_size()
            # unsafe: the check that torch would make runs every quantizer twice, and finds nothing that can happen here
            parametrize.register_parametrization(layer, "weight", quantizer.to(weight.device), unsafe=True)
        size = Size(sum(weight.numel() for weight in everything), ceil(bits / 8), bits)
        if activations is not None:
            with_clipped_inputs(network, activations, ends, self.layers)
        network.stored_size = lambda: size  # type: ignore[assignment]  # what the results ask a network for

    def bake(self) -> None:
        """Put the quantised weights in the place of the float32 ones."""
        for layer in self.layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def with_clipped_inputs(network: nn.Module, bits: int, ends: bool, layers: list[nn.Module] | None = None) -> nn.Module:
    """The network itself, what comes into whose layers is clipped and rounded from now on.

    Args:
        network: changed in place.
        bits: of what comes in.
        ends: whether the first and the last layer see it so too.
        layers: those of `inner_layers`, where they are known.
    """
    for layer in layers or inner_layers(network, ends):
        layer.register_forward_pre_hook(partial(clip_input, bits))
    if (node := node_of(network)) is not None:
        network.built_from = {"_target_": f"{__name__}.with_clipped_inputs",  # type: ignore[assignment]
                              COMPOSED: True, "network": node, "bits": bits, "ends": ends}
    return network


def clip_input(bits: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook: what comes into a layer, clipped and rounded."""
    return clipped(inputs[0], bits), *inputs[1:]


def with_learned_inputs(network: nn.Module, bits: int, ends: bool) -> nn.Module:
    """The network itself, what comes into whose layers is seen through a `LearnedInput` from now on.

    Args:
        network: changed in place.
        bits: of what comes in.
        ends: whether the first and the last layer see it so too.
    """
    for layer in inner_layers(network, ends):
        layer.input_quantizer = LearnedInput(bits).to(layer.get_parameter("weight").device)
        layer.register_forward_pre_hook(quantize_input)
    if (node := node_of(network)) is not None:
        network.built_from = {"_target_": f"{__name__}.with_learned_inputs",  # type: ignore[assignment]
                              COMPOSED: True, "network": node, "bits": bits, "ends": ends}
    return network


def quantize_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook: what comes into a layer, through the quantizer that it holds."""
    return layer.get_submodule("input_quantizer")(inputs[0]), *inputs[1:]
