"""What a network answers: one open record, and the one place that knows all of its fields."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["FIELDS", "LazyOutput", "ModelOutput", "Shapes", "changed"]


@dataclass(eq=False)
class ModelOutput:
    """What a network answers about B samples.

    Maps are always [B, C, H, W]: those of a sequence of L places are [B, C, 1, L] and zero where it is padded.

    Attributes:
        logits: in the network's own layout: classes [B, K], of places [B, T, K], of pixels [B, K, H, W], scores [B, N]. A
            `Role` that is asked about a batch hands out its rows instead, [M, K] (see `kdrun.tasks.base.Task.rows`), and
            keeps the network's layout in `dense`.
        embedding: [B, D], pooled; in a classifier of samples what the classifier sees.
        stages: the map at the end of each stage, after its activation.
        preacts: the same maps before that activation; `stages[i]` is always `relu(preacts[i])` in kdrun's own networks of
            pictures, and others have the activation that they have, or none (then both are the same).
        stem: the map before the first stage; None where the network has none.
        attentions: the probabilities [B, heads, L, L] of each layer that shows them.
        mask: [B, L], true where a sequence has something; None where nothing is padded.
        heads: further answers by name: sizes and offsets of boxes, ...
        dense: the logits in the network's own layout, where `logits` are rows.
    """

    logits: Tensor
    embedding: Tensor
    stages: tuple[Tensor, ...] = ()
    preacts: tuple[Tensor, ...] = ()
    stem: Tensor | None = None
    attentions: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    heads: dict[str, Tensor] = field(default_factory=dict)
    dense: Tensor | None = None

    def map(self, change: Callable[[Tensor], Any]) -> "ModelOutput":
        """The same with every tensor changed."""
        return ModelOutput(**{name: changed(getattr(self, name), change) for name in FIELDS})

    def replace(self, **changes: Any) -> "ModelOutput":
        """The same with other values in some fields."""
        return dataclasses.replace(self, **changes)

    def detach(self) -> "ModelOutput":
        """The same values as constants."""
        return self.map(torch.Tensor.detach)

    def float(self) -> "ModelOutput":
        """The same in single precision."""
        return self.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)

    def tokens(self, stage: int) -> Tensor:
        """A stage as a sequence of its places, [B, L, C], row by row."""
        return self.stages[stage].flatten(2).transpose(1, 2)


FIELDS = tuple(one.name for one in dataclasses.fields(ModelOutput))


def changed(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """A field of an output with every tensor in it changed."""
    if isinstance(value, tuple):
        return tuple(change(one) for one in value)
    if isinstance(value, dict):
        return {name: change(one) for name, one in value.items()}
    return None if value is None else change(value)


class LazyOutput(ModelOutput):
    """An output whose fields are found when they are first read.

    Args:
        base: what the fields are found from.
        derive: from a base to the value, by field; the other fields are the base's.
    """

    def __init__(self, base: ModelOutput, **derive: Callable[[ModelOutput], Any]) -> None:
        self.base, self.derive = base, derive
        self.known: dict[str, Any] = {}

    def __getattribute__(self, name: str) -> Any:
        if name not in FIELDS:
            return super().__getattribute__(name)
        if name not in self.known:
            self.known[name] = self.derive[name](self.base) if name in self.derive else getattr(self.base, name)
        return self.known[name]

    def replace(self, **changes: Any) -> ModelOutput:
        """The same with other values in some fields; nothing is read for it."""
        return LazyOutput(self, **{name: lambda _, value=value: value for name, value in changes.items()})

    def detach(self) -> ModelOutput:
        """The same values as constants; what was not read so far can still be."""
        twin = LazyOutput(self.base.detach(), **self.derive)
        twin.known = {name: changed(value, torch.Tensor.detach) for name, value in self.known.items()}
        return twin


@dataclass(frozen=True)
class Shapes:
    """The shapes of a `ModelOutput` without the batch: known before any training, for methods that add modules."""

    logits: torch.Size
    embedding: torch.Size
    stages: tuple[torch.Size, ...]
    preacts: tuple[torch.Size, ...]
    stem: torch.Size | None
    attentions: tuple[torch.Size, ...] = ()

    @classmethod
    def of(cls, output: ModelOutput) -> "Shapes":
        """Those of an output."""
        return cls(**{one.name: changed(getattr(output, one.name), lambda tensor: tensor.shape[1:])
                      for one in dataclasses.fields(cls)})

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, one.name) for one in dataclasses.fields(self))
