"""An answer of a network of which a part is known beforehand."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from kdrun.models.roles import ModelOutput

__all__ = ["Remembered"]


class Remembered:
    """An answer that reads like an `ModelOutput`, and runs the network only if something is read that is not known.

    Args:
        recall: what is known of a kind of answer; None where nothing is.
        run: the network's whole answer.
        reads: takes the names of what is read.
    """

    def __init__(self, recall: Callable[[str], Tensor | None], run: Callable[[], ModelOutput], reads: set[str]) -> None:
        self._recall, self._run, self._reads = recall, run, reads
        self._output: ModelOutput | None = None
        self._known: dict[str, Tensor] = {}

    def _read(self, kind: str) -> Tensor:
        self._reads.add(kind)
        if kind not in self._known:
            known = self._recall(kind) if self._output is None else None
            self._known[kind] = getattr(self._whole(), kind) if known is None else known
        return self._known[kind]

    def _whole(self) -> ModelOutput:
        if self._output is None:
            self._output = self._run()
        return self._output

    def _beyond(self, name: str) -> ModelOutput:
        self._reads.add(name)
        return self._whole()

    @property
    def logits(self) -> Tensor:
        """[B, K]."""
        return self._read("logits")

    @property
    def embedding(self) -> Tensor:
        """[B, D]."""
        return self._read("embedding")

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """Of the network, run for it."""
        return self._beyond("stages").stages

    @property
    def preacts(self) -> tuple[Tensor, ...]:
        """Of the network, run for it."""
        return self._beyond("preacts").preacts

    @property
    def stem(self) -> Tensor:
        """Of the network, run for it."""
        return self._beyond("stem").stem

    def __iter__(self) -> Iterator[Any]:
        return iter(self._beyond("everything"))

    def _replace(self, **changes: Any) -> ModelOutput:
        return self._beyond("everything")._replace(**changes)

    def detach(self) -> "Remembered":
        """Itself: it is constant."""
        return self
