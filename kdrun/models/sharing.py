"""One network on several processes: each has a part of the batch, and reads of the others' answers what it needs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from kdrun.data.sequences import Inputs
from kdrun.models.output import FIELDS, LazyOutput, ModelOutput, changed
from kdrun.utils.distributed import count, gather, part, sharing

__all__ = ["Gathered", "shared"]


class Gathered(LazyOutput):
    """The answer to a whole batch, of which this process has its part: what is read is fetched from the others.

    All processes read alike, since all run the same method.
    """

    def __init__(self, own: ModelOutput) -> None:
        super().__init__(own, **{name: lambda base, name=name: changed(getattr(base, name), gather) for name in FIELDS})

    def detach(self) -> "Gathered":
        """The same values as constants; what was not read so far can still be."""
        twin = Gathered(self.base.detach())
        twin.known = {name: changed(value, Tensor.detach) for name, value in self.known.items()}
        return twin


def shared(given: Inputs, run: Callable[[Any], ModelOutput]) -> ModelOutput:
    """Run a network on this process's part of a batch. A batch that cannot be shared out evenly each runs whole."""
    if count() == 1 or len(given) % count():
        return run(given)
    with sharing():
        return Gathered(run(part(given) if isinstance(given, Tensor) else given.map(part)))
