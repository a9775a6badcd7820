"""Codistillation."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Few, Fraction, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.stream import MemoryStream
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses.response import consensus
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks, Role, frozen
from kdrun.utils.seeding import generator

Reads = Literal["shards", "orders", "together"]


class Codistill(Mutual):
    """Train copies of one network on batches of their own, taught by stale copies of each other (Anil et al. 2018).

    The paper's workers exchange weights only now and then; here, too, what a network hears from the others comes from
    frozen copies that are renewed every few steps. For a while at the start each learns from the labels alone. Different
    networks may learn together as well, where the paper's are all alike. The paper's workers read disjoint parts of the
    data, as `reads=shards` has it: an epoch has as many steps as ever, in which each part is read as many times as there are
    networks. Measured on the digits (resnet8 twice, three seeds): 98.7 ± 0.1 % of the test set right with `orders`, and
    98.3 ± 0.3 % with `shards`, where each network reads half of 800 pictures (in validation 98.5 and 97.0 %); alone 98.6 ±
    0.1 %.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        weight: of the cross-entropy against what the others say.
        refresh_steps: how many steps a copy is used before the next one is taken.
        burn_in: the share of the training that is by the labels alone.
        reads: what each network sees: `shards`, a part of the training split that no other sees; `orders`, all of it in an
            order and an augmentation of its own; or `together`, the batches that all see.
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
    shard: Tensor  # whose each sample is
    together: int  # networks

    def __init__(self, *, peers: Few | list[NetworkName], weight: NonNegative, refresh_steps: AtLeastOne,
                 burn_in: Fraction, reads: Reads) -> None:
        super().__init__(peers=peers)
        self.weight, self.refresh_steps, self.burn_in, self.reads = weight, refresh_steps, burn_in, reads

    def setup(self, networks: Networks, data: Data) -> None:
        """Take the first copies."""
        self.stale = nn.ModuleList([frozen(role) for role in (networks.student, *networks.peers)])

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, and the stream that the networks' own batches come from.

        Raises:
            ValueError: there are too few samples to be dealt out.
        """
        self.stream = run.stream
        self.together = 1 + (self.peers if isinstance(self.peers, int) else len(self.peers))
        dealt = torch.randperm(self.stream.count, generator=generator("shards", run.seed)) % self.together
        self.shard = dealt.to(run.device)
        if self.reads == "shards" and self.stream.count // self.together < (size := run.recipe.batch_size):
            raise ValueError(f"method.reads=shards: {self.stream.count} samples are no batch of {size} for each of "
                             f"{self.together} networks; give a smaller recipe.batch_size, or method.reads=orders")
        yield from super().phases(run)

    def order(self, name: str, number: int, epoch: int) -> Tensor:
        """The rows that a network sees in an epoch, in their order."""
        if self.reads == "orders":
            return self.stream.order(epoch, f"order {name}")
        passes = [self.stream.order(epoch, f"order {name}, pass {one}") for one in range(self.together + 1)]
        return torch.cat([rows[self.shard[rows] == number] for rows in passes])

    def seen_by(self, role: Role, batch: Batch, number: int = 0) -> Batch:
        """What the network of a number, from 0 for the student, learns from in this step."""
        if self.reads == "together" or (role.name == "student" and self.reads == "orders"):
            return batch
        rows = self.order(role.name, number, batch.epoch)[batch.step * self.stream.size:(batch.step + 1) * self.stream.size]
        turn = f", pass {batch.step * self.together // len(self.stream)}" if self.reads == "shards" else ""
        return self.stream.batch(rows, batch.epoch, batch.epochs, batch.step, f"augmentation {role.name}{turn}")

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the student and of each peer."""
        together, steps = [networks.student, *networks.peers], len(self.stream)
        now = batch.epoch * steps + batch.step
        if now % self.refresh_steps == 0:
            for copy, role in zip(self.stale, together, strict=True):
                copy.load_state_dict(role.state_dict())
        for number, role in enumerate(together):
            seen = self.seen_by(role, batch, number)
            own = role(seen)
            terms = {"ce": self.label_loss(own, seen)}
            if now >= self.burn_in * batch.epochs * steps:
                others = [copy(seen).logits for place, copy in enumerate(self.stale) if place != number]
                terms["consensus"] = self.weight * consensus(others, own.logits)
            yield role.name, terms
