"""An average of the weights over the steps of a training, which often generalises better than where the last step ends."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential moving average of everything a phase trains, and of the statistics of its normalisations.

    After n updates the share of the past is `decay`, or (1 + n) / (10 + n) where that is smaller, so that the first
    weights are forgotten soon even in a short training (as in TensorFlow's ExponentialMovingAverage with `num_updates`).

    Args:
        decay: the share of the past in each update.
        modules: what is trained; only what needs a gradient is averaged.
    """

    def __init__(self, decay: float, modules: Iterable[nn.Module]) -> None:
        found: dict[int, Tensor] = {}
        for module in modules:
            found |= {id(weight): weight.data for weight in module.parameters() if weight.requires_grad}
            found |= {id(value): value for part in module.modules() if isinstance(part, _NormBase)
                      for value in part.buffers(recurse=False) if value.is_floating_point()}
        self.decay, self.updates = decay, 0
        self.present = list(found.values())
        self.mean = [value.detach().clone() for value in self.present]

    def update(self) -> None:
        """Take the present weights into the average."""
        self.updates += 1
        past = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(past)(self.mean, self.present, None)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the networks have the average as their weights."""
        own = [value.clone() for value in self.present]
        self.settle()
        try:
            yield
        finally:
            torch._foreach_copy_(self.present, own)

    def settle(self) -> None:
        """Let the networks have the average as their weights from now on."""
        torch._foreach_copy_(self.present, self.mean)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"updates": self.updates, "mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.updates = state["updates"]
        torch._foreach_copy_(self.mean, state["mean"])
