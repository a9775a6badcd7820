"""What searches within a run have in common: students within a budget, what they cost, and a table of what was tried."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.evaluation.metrics import flops, kl_divergence
from kdrun.methods.base import Method, Run, Terms
from kdrun.methods.losses import kd, mixture
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, Role
from kdrun.models.student_space import Architecture, Cost, StudentSpace, latency_ms
from kdrun.utils.files import write_atomically

__all__ = ["Candidates", "Guide", "Trial", "best", "by_labels_or_teacher"]

Guide = Literal["ce", "kd"]
TRIES = 30  # draws for each candidate that is wanted, before a space counts as one that has none


@dataclass
class Trial:
    """A candidate and what came of it.

    Attributes:
        name: of the candidate.
        parts: what it is made of: one architecture, or those of all members of an ensemble, the last first.
        cost: what it costs, as far as it was asked.
        epochs: that it was trained for.
        accuracy: its headline on the validation split; None where it was not asked.
        kl: of its answers there from the teacher's; None where there is no teacher, or it was not asked.
        score: what the choice goes by; the highest is chosen, of equals the smallest.
        chosen: whether it is.
    """

    name: str
    parts: tuple[Architecture, ...]
    cost: Cost
    epochs: float
    accuracy: float | None
    kl: float | None
    score: float
    chosen: bool = False

    @property
    def rank(self) -> tuple[float, int]:
        """What trials are compared by: the highest is the best."""
        return self.score, -self.cost.parameters


class Candidates:
    """The students that a run may choose from.

    Latencies are measured once in a run: what an earlier session of it measured stands beside its checkpoints, so that a run
    that is resumed chooses among the same candidates.

    Args:
        run: whose factory builds them.
        space: of the candidates; None where they are not drawn from one.
    """

    def __init__(self, run: Run, space: StudentSpace | None = None) -> None:
        self.run, self.space = run, space
        self.known: dict[tuple[Architecture, bool, bool], Cost] = {}
        self.taught: tuple[list[Role], Tensor] | None = None  # what these teachers answer together

    def built(self, architecture: Architecture, part: str = "student") -> Role:
        """A candidate with the first weights of a part of this run, in the place of the student."""
        role = self.run.factory.build(architecture.spec, part)
        role.name = "student"
        return role

    def cost(self, architecture: Architecture, whole: bool = False) -> Cost:
        """What a candidate costs: as much as its bounds ask for, or everything.

        Raises:
            ValueError: it cannot be built.
        """
        counted = whole or (self.space is not None and self.space.max_flops is not None)
        timed = whole or (self.space is not None and self.space.max_latency_ms is not None)
        if (key := (architecture, counted, timed)) not in self.known:
            role = self.built(architecture)
            example = role.task.example(1, role.device)
            self.known[key] = Cost(sum(own.numel() for own in role.parameters()),
                                   flops(role.network, example) if counted else None,
                                   self.latency(str(architecture), role.network, example) if timed else None)
        return self.known[key]

    def latency(self, name: str, network: nn.Module, example: Any) -> float:
        """In milliseconds; of one that was measured before in this run, as it was then."""
        if name not in self.latencies:
            self.latencies[name] = latency_ms(network, example)
            if self.run.folder is not None:
                told = json.dumps(self.latencies)
                write_atomically(self.run.folder / "latencies.json", lambda path: path.write_text(told))
        return self.latencies[name]

    @cached_property
    def latencies(self) -> dict[str, float]:
        """In milliseconds, by candidate."""
        path = self.run.folder / "latencies.json" if self.run.folder else None
        return json.loads(path.read_text()) if path and path.exists() else {}

    def drawn(self, count: int, random: torch.Generator) -> list[Architecture]:
        """Different candidates within the budget, by chance.

        Raises:
            ValueError: there are not so many.
        """
        assert self.space is not None
        found: dict[Architecture, None] = {}
        excess = ""
        for _ in range(TRIES * count):
            architecture = self.space.draw(random)
            if architecture in found:
                continue
            if (over := self.space.excess(self.cost(architecture))) is None:
                found[architecture] = None
                if len(found) == count:
                    return list(found)
            excess = over or excess
        raise ValueError(f"space: of {self.space.count} students only {len(found)} were found within the budget, and {count} "
                         f"are wanted{f' (one had {excess})' if excess else ''}; give a larger budget, smaller students, or "
                         "fewer candidates")

    def costs(self, parts: Sequence[Architecture], whole: bool = False) -> Cost:
        """What several cost together."""
        return reduce(Cost.beside, (self.cost(one, whole) for one in parts))

    def trial(self, name: str, parts: Sequence[Architecture], role: Role, epochs: float) -> Trial:
        """A candidate after its training, scored by its validation accuracy.

        Args:
            name: of the candidate.
            parts: what it is made of.
            role: its network.
            epochs: that it was trained for.
        """
        accuracy = self.run.validated(role)
        return Trial(name, tuple(parts), self.costs(parts), epochs, accuracy, self.kl(role), accuracy)

    def rows(self, trials: Sequence[Trial]) -> list[Mapping[str, object]]:
        """The table of some trials, with all that they cost."""
        return [{"trial": one.name, "chosen": one.chosen, "architecture": "; ".join(map(str, one.parts)),
                 **self.costs(one.parts, whole=True)._asdict(), "epochs": one.epochs, "validation_accuracy": one.accuracy,
                 "kl_to_teacher": one.kl, "reward": one.score} for one in trials]

    def kl(self, role: Role) -> float | None:
        """How far a network's answers to the validation split are from those of its present teachers, on average."""
        teachers = self.run.networks.teachers
        if self.run.rehearsal or not teachers:
            return None
        if self.taught is None or self.taught[0] is not teachers:
            self.taught = teachers, mixture([self.predicted(one) for one in teachers])
        return kl_divergence(self.taught[1], self.predicted(role))

    def predicted(self, role: Role) -> Tensor:
        """What a network answers to the validation split."""
        return predict(role, self.run.data, self.run.data.validation, self.run.device)


def best(trials: Sequence[Trial]) -> int:
    """The place of the best of some trials, which is marked as the chosen one."""
    place = max(range(len(trials)), key=lambda number: trials[number].rank)
    trials[place].chosen = True
    return place


def by_labels_or_teacher(method: Method, networks: Networks, batch: Batch, guide: Guide, temperature: float,
                         kd_weight: float) -> Terms:
    """The labels and, where it guides, the teacher's softened answer."""
    student = networks.student(batch)
    terms = {"ce": method.label_loss(student, batch)}
    if guide == "kd":
        terms["kd"] = kd_weight * kd(networks.teacher(batch).logits, student.logits, temperature)
    return terms
