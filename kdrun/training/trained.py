"""What comes of a training."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from kdrun.data.data import Data
from kdrun.models.description import Description
from kdrun.models.output import ModelOutput

__all__ = ["TrainedNetwork"]


@dataclass
class TrainedNetwork:
    """A trained network and what is known of it.

    Attributes:
        role: teacher, baseline, student, ...
        model: the name of its network.
        network: on the run's device.
        answers: to the test set, on the CPU: what the task evaluates.
        epochs: how long it was trained; None if that is not known.
        seconds: likewise.
        history: what was measured on the way.
        states: of the network on its way, where they were asked for.
        origin: `trained` here, from the `store`, or the user's `checkpoint`.
        measures: what the store tells people of it.
        entry: the name of its entry in the store; None for one that is not there.
        description: what is needed to build it again; None where that is not known, or not needed.
        classes: those that it knows, by number; None for all.
        checkpoint: the SHA-256 of the user's file that it was read from; None for any other.
    """

    role: str
    model: str
    network: nn.Module
    answers: ModelOutput
    epochs: int | None
    seconds: float | None
    history: list[tuple[str, str, int, str, str, float]] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)
    origin: str = "trained"
    measures: dict[str, float | None] = field(default_factory=dict)
    entry: str | None = None
    checkpoint: str | None = None
    description: Description | None = None
    classes: tuple[int, ...] | None = None
    _measured: dict[str, float | None] | None = field(default=None, init=False, repr=False)

    def measured(self, data: Data) -> dict[str, float | None]:
        """The task's measures of the answers to the test set: computed when first asked for, as several tables need them."""
        if self._measured is None:
            own = data.only(self.classes)
            self._measured = own.task.measures(self.answers, own.test)
        return self._measured
