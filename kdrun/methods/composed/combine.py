"""Several methods at once."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from kdrun.bounds import NonNegative
from kdrun.cast import Cast
from kdrun.data.batch import Batch
from kdrun.engine import Run
from kdrun.method import Curriculum, Method, Mutual, Phase, Terms
from kdrun.recipe import Recipe


class Combine(Method):
    """Learn by two or three methods at once, from the weighted sum of what they ask for.

    Cross-entropy with the labels is counted once: the term `ce` of every part is left out, whatever its weight there, and
    one cross-entropy of the student, times `ce_weight`, stands for all. Every other term keeps the weight it has in its
    part, times that of the part. What a part trains beforehand (the hint of FitNets) comes first, part by part; then all
    learn together. Whatever else a part owns, such as critics or memories, goes on as it does alone.

    Args:
        first: a method.
        second: another.
        third: one more, or null.
        first_weight: of the terms of the first, other than `ce`.
        second_weight: likewise.
        third_weight: likewise.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = "none"
    source = "a sum of the losses of several papers, as each of them invites"
    survey_scheme = ""
    rows = ()

    def __init__(self, *, first: Method, second: Method, third: Method | None, first_weight: NonNegative,
                 second_weight: NonNegative, third_weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.first, self.second, self.third = first, second, third
        weights = {"first": first_weight, "second": second_weight, "third": third_weight}
        self.weights, self.ce_weight = weights, ce_weight
        for slot, part in self.parts.items():
            if isinstance(part, Curriculum):
                raise ValueError(f"{slot}: {type(part).__name__} decides who is taught when, and cannot be a part of a sum; "
                                 "give it the sum as its base instead")
        if sum(isinstance(part, Mutual) for part in self.parts.values()) > 1:
            raise ValueError("only one part of a sum can bring peers")

    @property
    def parts(self) -> dict[str, Method]:
        """The methods, by the place they have."""
        placed = {"first": self.first, "second": self.second, "third": self.third}
        return {slot: part for slot, part in placed.items() if part is not None}

    def phases(self, run: Run) -> Iterator[Phase]:
        """What each part trains beforehand, then all together.

        Raises:
            ValueError: a part has no phase in which others can join, or more than one, or two make their own data.
        """
        joint, waiting = Phase(), []
        for slot, part in self.parts.items():
            part.label_smoothing = self.label_smoothing
            phases, name = part.phases(run), f"{slot}: {type(part).__name__}"
            for phase in phases:
                if phase.loss is None:
                    break
                phase.name = f"{slot}: {phase.name}"
                yield phase
            else:
                raise ValueError(f"{name} has no phase in which other methods can join")
            if phase.train is not None or phase.epochs is not None:
                raise ValueError(f"{name} trains in a way of its own, and other methods cannot join")
            if phase.data is not None and joint.data is not None:
                raise ValueError(f"{name} makes its own batches, and so does a part before it")
            joint.data = phase.data or joint.data
            waiting.append((name, phases))
        yield joint
        for name, phases in waiting:
            if next(phases, None) is not None:
                raise ValueError(f"{name} has several phases in which other methods would join")

    def players(self, cast: Cast) -> Mapping[str, Sequence[nn.Module]]:
        """The student with what the parts add to it, and the further players of each."""
        players: dict[str, list[nn.Module]] = {"student": [cast.student]}
        for slot, part in self.parts.items():
            for player, modules in part.players(cast).items():
                players.setdefault(own(slot, player), []).extend(modules)
        return players

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's for the student, a part's choice for a player of its own."""
        slot, _, name = player.partition(" ")
        return self.parts[slot].optimizer(name, weights, recipe) if slot in self.parts else recipe.build(weights)

    def products(self, cast: Cast) -> Mapping[str, nn.Module]:
        """Those of all parts."""
        return {name: network for part in self.parts.values() for name, network in part.products(cast).items()}

    def reports(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Those of all parts."""
        return {f"{slot}_{name}": rows for slot, part in self.parts.items() for name, rows in part.reports(run).items()}

    def step(self, cast: Cast, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """One update of the student by all parts; what else each of them updates, before or after as it would alone."""
        terms: Terms = {"ce": self.ce_weight * self.hard(cast.student(batch), batch)} if batch.y is not None else {}
        waiting = []
        for slot, part in self.parts.items():
            moves = part.step(cast, batch)
            for player, asked in moves:
                if player == "student":
                    terms |= self.weighted(slot, asked)
                    break
                yield own(slot, player), asked
            waiting.append((slot, moves))
        yield "student", terms
        for slot, moves in waiting:
            for player, asked in moves:
                again = player == "student"
                yield own(slot, player), self.weighted(slot, asked) if again else asked

    def weighted(self, slot: str, terms: Terms) -> Terms:
        """The terms of a part without its cross-entropy."""
        return {f"{slot} {name}": self.weights[slot] * term for name, term in terms.items() if name != "ce"}


def own(slot: str, player: str) -> str:
    """What a player of a part is called; all share the student."""
    return player if player == "student" else f"{slot} {player}"
