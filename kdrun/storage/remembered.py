"""An answer of a network of which a part is known beforehand."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from kdrun.models.output import FIELDS, LazyOutput, ModelOutput

__all__ = ["KINDS", "Remembered"]

KINDS = ("logits", "embedding")  # what is kept: small against the inputs; the feature maps are not


class Remembered(ModelOutput):
    """An answer that runs the network only if something is read that is not known.

    Args:
        recall: what is known of a kind of answer; None where nothing is.
        run: the network's whole answer.
        reads: takes the names of what is read.
    """

    def __init__(self, recall: Callable[[str], Tensor | None], run: Callable[[], ModelOutput], reads: set[str]) -> None:
        self._recall, self._run, self._reads = recall, run, reads
        self._output: ModelOutput | None = None
        self._known: dict[str, Tensor] = {}

    def __getattribute__(self, name: str) -> Any:
        if name not in FIELDS:
            return super().__getattribute__(name)
        self._reads.add(name)
        if name not in KINDS:
            return getattr(self._whole(), name)
        if name not in self._known:
            known = self._recall(name) if self._output is None else None
            self._known[name] = getattr(self._whole(), name) if known is None else known
        return self._known[name]

    def _whole(self) -> ModelOutput:
        if self._output is None:
            self._output = self._run()
        return self._output

    def replace(self, **changes: Any) -> ModelOutput:
        """The same with other values in some fields; nothing is read for it."""
        return LazyOutput(self, **{name: lambda _, value=value: value for name, value in changes.items()})

    def detach(self) -> "Remembered":
        """Itself: it is constant."""
        return self
