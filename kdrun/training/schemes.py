"""Schemes: who teaches, and when the teacher learns."""

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from kdrun.config.constraints import AtLeastOne, Fraction, Proportion
from kdrun.data.batch import Batch
from kdrun.methods.base import Phase, Run, Scheme, Terms, Updates
from kdrun.methods.baseline.vanilla import Vanilla
from kdrun.methods.losses import ramp
from kdrun.models.factory import NetworkFactory
from kdrun.models.roles import Frozen, Networks, frozen

__all__ = ["Offline", "Online", "SelfTaught"]

class Offline(Scheme):
    """The teacher is trained first and then frozen."""

    name = "offline"
    trained_teacher = True

    def networks(self, factory: NetworkFactory) -> Networks:
        """The student and its trained, frozen teachers."""
        return Networks(factory.student(), list(factory.trained_teachers()))


class Online(Scheme):
    """Teacher and student start together: before each update of the student the teacher learns from the labels.

    The student learns from what the teacher said in that very step, so the teacher runs once a batch.
    """

    name = "online"

    def __init__(self) -> None:
        super().__init__()
        self.own = Vanilla()

    def networks(self, factory: NetworkFactory) -> Networks:
        """The student and its untrained teachers.

        Raises:
            ValueError: a teacher would learn from labels of other samples than it sees.
        """
        if not factory.data.paired:
            raise ValueError("dataset.paired=false shows a teacher other samples than the labels are of, and under "
                             "scheme=online it would learn from them; choose scheme=offline")
        return Networks(factory.student(), factory.untrained_teachers())

    def players(self, players: Mapping[str, Sequence[nn.Module]], networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Each teacher learns by an optimizer of its own."""
        return {**{role.name: [role] for role in networks.teachers}, **players}

    def updates(self, updates: Updates, networks: Networks, batch: Batch, phase: Phase) -> Iterator[tuple[str, Terms]]:
        """Each teacher's update, then the method's."""
        for role in networks.teachers:
            yield role.name, self.own.loss(Networks(role), batch)
        yield from updates

    def trained_networks(self, trained_networks: Mapping[str, nn.Module], networks: Networks) -> Mapping[str, nn.Module]:
        """The teachers are made by this training."""
        return {**{role.name: role for role in networks.teachers}, **trained_networks}


class SelfTaught(Scheme):
    """The student's own past is the teacher: a frozen copy of it.

    A student that has learned nothing yet has nothing to teach. So it first learns by the labels alone, for a share of
    the recipe's epochs; then the first copy is taken, and the epochs that are left are the method's. In those the loss
    goes over from the labels alone to what the method says: the labels have the weight 1 - r and the method's terms the
    weight r, which grows along a bell's flank from exp(-5) to 1. The schedule of the recipe runs once over all of it.
    What a method trains beforehand comes between, as the method says.

    A method that learns from no teacher under this scheme, or brings its own, is left as it is.

    Args:
        start_share: share of the recipe's epochs that is by the labels alone; at least one epoch unless it is 0.
        ramp_share: share of the method's epochs over which its terms grow to their whole weight; 0 for from the start.
        refresh_epochs: how many epochs a copy teaches before the next one is taken; null for one copy to the end.
    """

    name = "self"

    def __init__(self, *, start_share: Proportion, ramp_share: Fraction, refresh_epochs: AtLeastOne | None) -> None:
        super().__init__()
        self.start_share, self.ramp_share, self.refresh_epochs = start_share, ramp_share, refresh_epochs
        self.own = Vanilla()
        self.past: Frozen | None = None
        self.teaching = False
        self.started = 0  # epochs by the labels alone

    def networks(self, factory: NetworkFactory) -> Networks:
        """The student and a copy of it; the student alone where the method needs no teacher."""
        student = factory.student()
        self.past = frozen(student, "teacher") if factory.teacher_specs else None
        return Networks(student, [self.past] if self.past else [])

    def phases(self, run: Run) -> Iterator[Phase]:
        """The labels alone, so that the first copy knows something."""
        self.teaching = self.past is not None and run.method.past_teaches
        whole = run.recipe.epochs
        epochs = min(max(round(self.start_share * whole), 1), whole - 1)
        if self.teaching and self.start_share and epochs:
            yield Phase(loss=self.own.loss, train=[run.networks.student], epochs=epochs, total=whole)
            self.started, run.started = run.trained[Phase.name], epochs  # the former is 1 in a rehearsal
            self.renew(run.networks)

    def renew(self, networks: Networks) -> None:
        """From now on the student as it is teaches."""
        assert self.past is not None
        self.past.network.load_state_dict(networks.student.network.state_dict())
        self.past.forget()

    def updates(self, updates: Updates, networks: Networks, batch: Batch, phase: Phase) -> Iterator[tuple[str, Terms]]:
        """The method's updates, by a teacher that is at most `refresh_epochs` old."""
        if not self.teaching or self.past not in networks.teachers:
            yield from updates
            return
        before = self.started if phase.name == Phase.name else 0
        epoch, epochs = batch.epoch - before, batch.epochs - before  # of those that are the method's
        due = epoch % self.refresh_epochs == 0 if epoch and self.refresh_epochs else not epoch and not self.started
        if due and batch.step == 0:
            self.renew(networks)
        grown = ramp(epoch / epochs, self.ramp_share) if phase.loss is None else 1.0
        for player, terms in updates:
            if player == "student" and grown < 1:
                labels = {f"start {name}": (1 - grown) * term for name, term in self.own.loss(networks, batch).items()}
                terms = labels | {name: grown * term for name, term in terms.items()}
            yield player, terms
