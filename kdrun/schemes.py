"""Schemes: who teaches, and when the teacher learns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from kdrun.bounds import AtLeastOne
from kdrun.cast import Cast, frozen
from kdrun.data.batch import Batch
from kdrun.method import Terms
from kdrun.methods.baseline.vanilla import Vanilla

if TYPE_CHECKING:
    from kdrun.networks import Networks

__all__ = ["Offline", "Online", "Scheme", "SelfTaught"]

Moves = Iterable[tuple[str, Terms]]


class Scheme(nn.Module):
    """A scheme; its modules, if it has any, are saved with the training.

    Attributes:
        name: as methods list it in `schemes`.
        trained_teacher: whether whoever teaches first is trained before the student starts.
    """

    name: ClassVar[str]
    trained_teacher: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def cast(self, networks: "Networks") -> Cast:
        """Choose who plays."""
        raise NotImplementedError

    def players(self, players: Mapping[str, Sequence[nn.Module]], cast: Cast) -> Mapping[str, Sequence[nn.Module]]:
        """The method's players, and those the scheme adds."""
        return players

    def moves(self, moves: Moves, cast: Cast, batch: Batch) -> Moves:
        """The method's updates of one batch, and those the scheme adds."""
        return moves

    def products(self, products: Mapping[str, nn.Module], cast: Cast) -> Mapping[str, nn.Module]:
        """The networks the training makes, and those the scheme adds."""
        return products


class Offline(Scheme):
    """The teacher is trained first and then frozen."""

    name = "offline"
    trained_teacher = True

    def cast(self, networks: "Networks") -> Cast:
        """The student and its trained, frozen teachers."""
        return Cast(networks.student(), list(networks.trained_teachers()))


class Online(Scheme):
    """Teacher and student start together: before each update of the student the teacher learns from the labels.

    The student learns from what the teacher said in that very step, so the teacher runs once a batch.
    """

    name = "online"

    def __init__(self) -> None:
        super().__init__()
        self.own = Vanilla()

    def cast(self, networks: "Networks") -> Cast:
        """The student and its untrained teachers.

        Raises:
            ValueError: a teacher would learn from labels of other samples than it sees.
        """
        if not networks.data.paired:
            raise ValueError("dataset.paired=false shows a teacher other samples than the labels are of, and under "
                             "scheme=online it would learn from them; choose scheme=offline")
        return Cast(networks.student(), networks.untrained_teachers())

    def players(self, players: Mapping[str, Sequence[nn.Module]], cast: Cast) -> Mapping[str, Sequence[nn.Module]]:
        """Each teacher learns by an optimizer of its own."""
        return {**{role.name: [role] for role in cast.teachers}, **players}

    def moves(self, moves: Moves, cast: Cast, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Each teacher's update, then the method's."""
        for role in cast.teachers:
            yield role.name, self.own.loss(Cast(role), batch)
        yield from moves

    def products(self, products: Mapping[str, nn.Module], cast: Cast) -> Mapping[str, nn.Module]:
        """The teachers are made by this training."""
        return {**{role.name: role for role in cast.teachers}, **products}


class SelfTaught(Scheme):
    """The student's own past is the teacher: a frozen copy, renewed at the start of every few epochs.

    Args:
        refresh_epochs: how many epochs a copy teaches before the next one is taken.
    """

    name = "self"

    def __init__(self, *, refresh_epochs: AtLeastOne) -> None:
        super().__init__()
        self.refresh_epochs = refresh_epochs

    def cast(self, networks: "Networks") -> Cast:
        """The student and a copy of it; the student alone where the method needs no teacher."""
        student = networks.student()
        self.past = frozen(student, "teacher") if networks.teacher_specs else None
        return Cast(student, [self.past] if self.past else [])

    def moves(self, moves: Moves, cast: Cast, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The method's updates, by a teacher that is at most `refresh_epochs` old."""
        due = batch.step == 0 and batch.epoch % self.refresh_epochs == 0
        if due and self.past is not None and self.past in cast.teachers:
            self.past.network.load_state_dict(cast.student.network.state_dict())
        yield from moves
