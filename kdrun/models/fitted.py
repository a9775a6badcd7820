"""Models that are no networks: made of their pictures in one go, not by the steps of an optimizer."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FittedModel"]


class FittedModel(nn.Module):
    """A model that `grow` makes; it can stand wherever a network can, as teacher, student or baseline.

    It answers pictures with an `ModelOutput` that has no stages, and keeps all that it knows in buffers: so it is evaluated,
    timed, saved, loaded and moved between devices as networks are. How many values those buffers hold is known only when
    it is grown, so it takes the shapes of whatever it loads. What `metrics.size` shall call its size `stored_size` says.
    """

    def check(self, count: int) -> None:
        """Refuse to grow from so many pictures.

        Raises:
            ValueError: they are too many.
        """

    def fit(self, pictures: Tensor, targets: Tensor) -> None:
        """Learn.

        Args:
            pictures: [N, C, H, W].
            targets: labels [N], or logits [N, K].
        """
        raise NotImplementedError

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            given = state.get(prefix + name)
            if given is not None and given.shape != buffer.shape:
                setattr(self, name, torch.empty_like(given, device=buffer.device))
        super()._load_from_state_dict(state, prefix, *rest)
