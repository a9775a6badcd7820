"""What a network answers to a whole split."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.data.data import Data
from kdrun.data.samples import Samples
from kdrun.data.sequences import main_tensor
from kdrun.models.output import ModelOutput, changed
from kdrun.models.roles import Role
from kdrun.utils import signals

__all__ = ["answers", "predict"]


def answers(network: nn.Module, data: Data, samples: Samples, device: torch.device) -> ModelOutput:
    """What a network answers to a split as it sees it, on the CPU, in its own layout. It is left in evaluation mode.

    Of every sample the fields are kept that the task evaluates.
    """
    network.eval()
    view = getattr(network, "view", None)
    kept: list[dict[str, Any]] = []
    with torch.inference_mode():
        for batch in data.seen(view).plain(samples, device):
            signals.check()
            asked = batch if view is None else replace(batch, views={view: main_tensor(batch.x)})
            output = data.task.predict(network, asked)
            kept.append({name: changed(getattr(output, name), on_host) for name in ("logits", *data.task.keeps)})
            if isinstance(network, Role):
                network.forget()  # its maps, before the next ones are made
    whole = {name: joined([one[name] for one in kept]) for name in kept[0]}
    return ModelOutput(**{"embedding": torch.empty(0), **whole})


def on_host(tensor: Tensor) -> Tensor:
    """A tensor on the CPU, numbers in single precision."""
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().clone()


def joined(values: list[Any]) -> Any:
    """A field of the outputs to several batches, of all samples."""
    if isinstance(values[0], dict):
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}
    return torch.cat(values)


def predict(network: nn.Module, data: Data, samples: Samples, device: torch.device) -> Tensor:
    """The rows [M, K] of a network's answers to a split, on the CPU. It is left in evaluation mode."""
    return data.task.split_rows(answers(network, data, samples, device), samples)[0]
