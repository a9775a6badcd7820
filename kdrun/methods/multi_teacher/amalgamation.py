"""What methods share that put together teachers of different classes, and read no label."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.stream import Stream
from kdrun.methods.base import Run
from kdrun.models.roles import Role

__all__ = ["common_size", "same_stages", "student_samples"]


def student_samples(run: Run) -> Stream | None:
    """What the student learns from that reads no label: the samples without labels where there are some, None for all."""
    return None if run.data.pool is None else run.pool(run.recipe.batch_size, len(run.stream))


def same_stages(roles: Sequence[Role]) -> list[tuple[torch.Size, ...]]:
    """The shapes of the networks' maps, stage by stage.

    Raises:
        ValueError: they have not the same number of stages.
    """
    stages = [role.shapes.stages for role in roles]
    if len({len(own) for own in stages}) > 1:
        told = ", ".join(f"the {role.name} {role.model} {len(own)}" for role, own in zip(roles, stages, strict=True))
        raise ValueError(f"it puts maps together stage by stage, and of these {told} has; take networks of as many stages")
    return list(zip(*stages, strict=True))


def common_size(maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps [B, C, H, W] of any channels, average-pooled to the smallest height and width among them."""
    size = min(one.shape[-2] for one in maps), min(one.shape[-1] for one in maps)
    return [one if one.shape[-2:] == size else F.adaptive_avg_pool2d(one, size) for one in maps]
