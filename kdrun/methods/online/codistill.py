"""Codistillation."""

from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from kdrun.config.constraints import AtLeastOne, Few, Fraction, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.stream import MemoryStream
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses.response import consensus
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks, Role, frozen


class Codistill(Mutual):
    """Train copies of one network on batches of their own, taught by stale copies of each other (Anil et al. 2018).

    The paper's workers exchange weights only now and then; here, too, what a network hears from the others comes from
    frozen copies that are renewed every few steps. For a while at the start each learns from the labels alone. Different
    networks may learn together as well, where the paper's are all alike. An approximation: the workers of the paper read
    disjoint parts of the data, here each reads all of it in an order of its own.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        weight: of the cross-entropy against what the others say.
        refresh_steps: how many steps a copy is used before the next one is taken.
        burn_in: the share of the training that is by the labels alone.
        own_order: whether each network sees the samples in an order and an augmentation of its own.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("rows",)  # only after its burn-in, which no rehearsal reaches
    knowledge = ("response",)
    plain_logits = ""
    source = "Anil, Pereyra, Passos, Ormandi, Dahl, Hinton: Large scale distributed neural network training through " \
             "online distillation. ICLR 2018"
    survey_scheme = "online"
    survey_tables = ("Gou section 4.2",)

    stale: nn.ModuleList
    stream: MemoryStream

    def __init__(self, *, peers: Few | list[NetworkName], weight: NonNegative, refresh_steps: AtLeastOne,
                 burn_in: Fraction, own_order: bool) -> None:
        super().__init__(peers=peers)
        self.weight, self.refresh_steps, self.burn_in, self.own_order = weight, refresh_steps, burn_in, own_order

    def setup(self, networks: Networks, data: Data) -> None:
        """Take the first copies."""
        self.stale = nn.ModuleList([frozen(role) for role in (networks.student, *networks.peers)])

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, and the stream that the peers' own batches come from."""
        self.stream = run.stream
        yield from super().phases(run)

    def seen_by(self, role: Role, batch: Batch) -> Batch:
        """What a network learns from in this step: the student from the run's batch, a peer from its own."""
        if role.name == "student" or not self.own_order:
            return batch
        order = self.stream.order(batch.epoch, f"order {role.name}")
        rows = order[batch.step * self.stream.size:(batch.step + 1) * self.stream.size]
        return self.stream.batch(rows, batch.epoch, batch.epochs, batch.step, f"augmentation {role.name}")

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the student and of each peer."""
        together, steps = [networks.student, *networks.peers], len(self.stream)
        now = batch.epoch * steps + batch.step
        if now % self.refresh_steps == 0:
            for copy, role in zip(self.stale, together, strict=True):
                copy.load_state_dict(role.state_dict())
        for number, role in enumerate(together):
            seen = self.seen_by(role, batch)
            own = role(seen)
            terms = {"ce": self.label_loss(own, seen)}
            if now >= self.burn_in * batch.epochs * steps:
                others = [copy(seen).logits for place, copy in enumerate(self.stale) if place != number]
                terms["consensus"] = self.weight * consensus(others, own.logits)
            yield role.name, terms
