"""Forms that several methods share: curricula that use another's loss, generations, and networks side by side."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.models.roles import Networks, frozen

__all__ = ["Curriculum", "Generations", "Mutual", "next_generation"]


class Curriculum(Method):
    """A method that decides who is taught by whom, and in which order; its `base` owns the loss."""

    plain_logits = "decides who teaches whom, and has no loss of its own"
    base: Method

    def __init__(self, *, base: Method) -> None:
        super().__init__()
        if isinstance(base, Curriculum):
            raise ValueError(f"base: {type(base).__name__} is a curriculum itself, and has no loss to lend")
        if base.rebuilds_student:
            raise ValueError(f"base: what {type(base).__name__} makes is another network that has the student as a part, "
                             "and the student alone can neither be taught further nor teach; take another base")
        self.base = base

    def setup(self, networks: Networks, data: Data) -> None:
        """Set the base up anew for the pair that trains next."""
        self.base.setup(networks, data)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The base's players."""
        return self.base.players(networks)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The base's updates."""
        yield from self.base.step(networks, batch)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The base's choice."""
        return self.base.optimizer(player, weights, recipe)

    def failure(self) -> tuple[str, str] | None:
        """What the base says."""
        return self.base.failure()

    def base_phases(self, run: Run, name: str) -> Iterator[Phase]:
        """The base's own phases for the present pair, under the name of this hop."""
        for phase in self.base.phases(run):
            phase.name = f"{name}: {phase.name}"
            yield phase


class Mutual(Method):
    """A method whose networks teach one another: the student and its peers, each by an optimizer of its own.

    Args:
        peers: how many further networks like the student, with other first weights; or the names of networks.
    """

    def __init__(self, *, peers: int | list[str]) -> None:
        super().__init__()
        if not peers:
            raise ValueError("peers: the student needs at least one")
        self.peers = peers

    def phases(self, run: Run) -> Iterator[Phase]:
        """Bring the peers, set up, then one phase."""
        run.networks.peers = run.factory.peers(self.peers)
        self.setup(run.networks, run.data)
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student, and each peer."""
        return {"student": [networks.student, self], **{peer.name: [peer] for peer in networks.peers}}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and each peer."""
        return {"student": networks.student, **{peer.name: peer for peer in networks.peers}}


def next_generation(run: Run, generation: int) -> None:
    """Freeze the student as the teacher of this generation, whose student starts from new weights."""
    run.networks.teachers = [frozen(run.networks.student, f"generation {generation - 1}")]
    run.networks.student = run.factory.student(generation)


class Generations(Method):
    """A method that teaches a fresh copy of the student by the one before, several times over.

    Generation 0 learns by `first_loss`, all others by `loss` from the last epoch of the one before. Under a scheme with a
    trained teacher there is no generation 0, and that teacher teaches generation 1.

    Args:
        generations: how many are taught.
    """

    past_teaches = False

    def __init__(self, *, generations: int) -> None:
        super().__init__()
        self.generations = generations

    def phases(self, run: Run) -> Iterator[Phase]:
        """Generation after generation."""
        self.setup(run.networks, run.data)
        if not run.scheme.trained_teacher:
            yield Phase("generation 0", loss=self.first_loss)
            next_generation(run, 1)
        for generation in range(1, self.generations + 1):
            yield Phase(f"generation {generation}")
            if generation < self.generations:
                next_generation(run, generation + 1)

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """What generation 0 descends: the labels alone, unless a method has another loss."""
        return {"ce": self.label_loss(networks.student(batch), batch)}
