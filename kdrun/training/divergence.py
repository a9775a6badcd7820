"""Numbers that go wrong: what stops a training, and what a bounded number of bad batches may not leave behind."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Diverged", "StepSnapshot", "finite", "first_bad"]


class Diverged(RuntimeError):
    """A loss, a weight or an answer is NaN or infinite, or what a method makes is worth nothing."""


class StepSnapshot:
    """What a batch may change beside the weights: batch statistics, memories, centres; so that it can be taken back.

    Args:
        modules: of everything that learns.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.kept = [(part, name, buffer, buffer.clone()) for module in modules for part in module.modules()
                     for name, buffer in part.named_buffers(recurse=False)]

    def __call__(self) -> None:
        """Make every buffer what it was, whether it was changed or replaced."""
        with torch.no_grad():
            for part, name, buffer, before in self.kept:
                buffer.copy_(before)
                part._buffers[name] = buffer


def finite(weights: Sequence[nn.Parameter]) -> bool:
    """Whether the gradient of every weight that has one is finite."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return not gradients or bool(nn.utils.get_total_norm(gradients).isfinite())


def first_bad(values: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first that is not finite; None if all are."""
    return next((name for name, value in values
                 if value.is_floating_point() and not bool(torch.isfinite(value).all())), None)
