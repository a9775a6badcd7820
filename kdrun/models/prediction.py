"""What a network answers to a whole split."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.data.data import Data
from kdrun.data.samples import Samples
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Role
from kdrun.utils import signals

__all__ = ["answers", "predict"]


def answers(network: nn.Module, data: Data, samples: Samples, device: torch.device) -> ModelOutput:
    """What a network answers to a split as it sees it, on the CPU, in its own layout. It is left in evaluation mode.

    Of every sample the fields are kept that the task evaluates.
    """
    network.eval()
    view = getattr(network, "view", None)
    whole: dict[str, Any] = {}
    start = 0
    with torch.inference_mode():
        for batch in data.seen(view).plain(samples, device):
            signals.check()
            asked = batch if view is None else replace(batch, views={view: batch.x})
            output = data.task.predict(network, asked)
            for name in ("logits", *data.task.keeps):
                keep(whole, name, getattr(output, name), start, len(samples))
            start += len(batch)
            if isinstance(network, Role):
                network.forget()  # its maps, before the next ones are made
    return ModelOutput(**{"embedding": torch.empty(0), **whole})


def keep(whole: dict[str, Any], name: str, value: Any, start: int, count: int) -> None:
    """Put a field of the output to a batch into that of all samples.

    Memory for all is taken at once: the pieces of each batch would lie among the freed maps of the networks and keep those of
    the next batch from fitting in there.

    Args:
        whole: the fields of all samples by name, on the CPU, numbers in single precision.
        name: of the field.
        value: of the batch: [B, ...], or several of those by name.
        start: which sample the batch begins with.
        count: how many samples there are.
    """
    if isinstance(value, dict):
        for key, one in value.items():
            keep(whole.setdefault(name, {}), key, one, start, count)
        return
    if name not in whole:
        kind = torch.float32 if value.is_floating_point() else value.dtype
        with torch.inference_mode(False):
            whole[name] = torch.empty(count, *value.shape[1:], dtype=kind)
    whole[name][start:start + len(value)] = value


def predict(network: nn.Module, data: Data, samples: Samples, device: torch.device) -> Tensor:
    """The rows [M, K] of a network's answers to a split, on the CPU. It is left in evaluation mode."""
    return data.task.split_rows(answers(network, data, samples, device), samples)[0]
