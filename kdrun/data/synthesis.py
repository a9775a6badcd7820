"""Image synthesis: the pictures of another data set, each with noise beside it to be made of."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.config.instantiation import instantiate
from kdrun.data.samples import Samples, Source
from kdrun.utils.seeding import generator

__all__ = ["synthesis"]


def synthesis(*, base: dict[str, Any], noise: AtLeastOne, discriminator_width: AtLeastOne, discriminator_lr: Positive,
              discriminator_penalty: NonNegative) -> Source:
    """The classified pictures of another data set, to be made out of noise.

    Args:
        base: the settings of the other data set.
        noise: numbers that a picture is made of.
        discriminator_width: this and the others are the task's settings, see `kdrun.tasks.synthesis.Synthesis`.
        discriminator_lr: likewise.
        discriminator_penalty: likewise.

    Raises:
        ValueError: what the base's reader says, or its samples are no classified pictures in memory.
    """
    source: Source = instantiate(base, "reader")
    if source.task != "classification" or not isinstance(source.train.inputs, Tensor) or source.train.inputs.ndim != 4:
        raise ValueError("dataset/base has to be of classified pictures in memory; choose one that is")

    def part(name: str, samples: Samples) -> Samples:
        draws = torch.randn(len(samples), noise, generator=generator("codes", name))
        return Samples(draws, samples.labels, {"picture": samples.inputs})

    height, width, channels = source.train.inputs.shape[1:]
    parts: dict[str, Any] = {("train" if name == "training" else name): part(name, own) for name, own in source.parts.items()}
    return replace(source, **parts, task="synthesis", info={
        "picture": [channels, height, width], "discriminator_width": discriminator_width, "discriminator_lr": discriminator_lr,
        "discriminator_penalty": discriminator_penalty})
