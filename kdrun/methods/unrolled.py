"""Gradients through training steps: networks as they are after some steps that can be differentiated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["SGD", "Unrolled"]


@dataclass(frozen=True)
class SGD:
    """How a step of SGD is taken, as PyTorch takes it.

    Attributes:
        rate: the learning rate, which may be learned itself.
        momentum: of the update.
        decay: of the weights, one for all or one for each.
        nesterov: whether the momentum looks ahead.
    """

    rate: float | Tensor
    momentum: float = 0.0
    decay: float | Sequence[float] = 0.0
    nesterov: bool = False

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> "SGD":
        """As an optimizer would go on with these weights, in their order.

        Raises:
            ValueError: it is another optimizer.
        """
        if not isinstance(optimizer, torch.optim.SGD):
            raise ValueError("it differentiates steps of SGD, and the recipe trains by another optimizer; give "
                             "recipe.optimizer=sgd")
        decays = {weight: group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
        group = optimizer.param_groups[0]
        return cls(group["lr"], group["momentum"], [decays.get(weight, 0.0) for weight in weights], group["nesterov"])


class Unrolled:
    """Modules after steps of SGD, as functions of whatever those steps depended on; the modules stay as they are.

    Each step adds to one graph, so that a loss at the end has a gradient with respect to learned data, labels, rates and
    losses of all steps before. Weights, momenta and statistics of normalisation are copies: nothing has to be rolled back.

    Args:
        modules: by name.
        momenta: of weights that have some already, by the weight; the optimizer's are taken as constants.
    """

    def __init__(self, modules: Mapping[str, nn.Module], momenta: Mapping[Tensor, Tensor] | None = None) -> None:
        self.modules, known = dict(modules), momenta or {}
        self.places: list[tuple[str, str]] = []
        self.weights: list[Tensor] = []
        self.momenta: list[Tensor | None] = []
        for part, module in self.modules.items():
            for name, weight in module.named_parameters():
                if weight.requires_grad:
                    self.places.append((part, name))
                    self.weights.append(weight)
                    self.momenta.append(known.get(weight))
        self.buffers = {(part, name): buffer.clone() for part, module in self.modules.items()
                        for name, buffer in module.named_buffers()}

    def __call__(self, part: str, *given: Tensor) -> Any:
        """What a module answers by the present weights; statistics of normalisation move, where it is in training mode."""
        held = dict(zip(self.places, self.weights, strict=True)) | self.buffers
        own = {name: value for (whose, name), value in held.items() if whose == part}
        return functional_call(self.modules[part], own, given)

    def step(self, loss: Tensor, by: SGD) -> None:
        """One step down a loss, a scalar that the present weights made.

        A weight that it does not depend on goes on by momentum and decay.
        """
        gradients = torch.autograd.grad(loss, self.weights, create_graph=True, allow_unused=True)
        decays = [by.decay] * len(self.weights) if isinstance(by.decay, float) else list(by.decay)
        moved: list[Tensor] = []
        for number, (weight, found) in enumerate(zip(self.weights, gradients, strict=True)):
            gradient = torch.zeros_like(weight) if found is None else found
            if decays[number]:
                gradient = gradient + decays[number] * weight
            if by.momentum:
                before = self.momenta[number]
                after = gradient if before is None else by.momentum * before + gradient
                self.momenta[number] = after
                gradient = gradient + by.momentum * after if by.nesterov else after
            moved.append(weight - by.rate * gradient)
        self.weights = moved

