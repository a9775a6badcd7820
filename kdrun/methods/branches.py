"""Further ends of a network, for several methods: branches off its first stages, exits after each stage, whole ensembles."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role

__all__ = ["Branched", "MeanEnsemble", "answers_of", "bottleneck", "ends", "exit_answers", "exits_of", "trunk_of"]


def trunk_of(answer: ModelOutput, shared: int) -> Tensor:
    """The map after so many stages of a network that shows them all; 0 is the stem."""
    trunk = answer.stages[shared - 1] if shared else answer.stem
    assert trunk is not None
    return trunk


def ends(first: Role, others: Sequence[Role], shared: int | None, asked: Batch | Tensor) -> list[ModelOutput]:
    """What a network and those beside it answer.

    Args:
        first: the network.
        others: its branches, or separate networks.
        shared: how many of its stages they share, so that these run once; None where they share nothing.
        asked: about what.
    """
    own = first(asked)
    if shared is None:
        return [own, *(other(asked) for other in others)]
    trunk = trunk_of(own, shared)
    return [own, *(other.onward(trunk, shared) for other in others)]


def bottleneck(before: torch.Size, after: torch.Size) -> nn.Sequential:
    """A stage from maps of one shape [C, H, W] to another: narrow, halve the map as often as it takes, widen.

    Ends before its activation, as every stage does.
    """
    narrow = max(after[0] // 4, 1)
    halvings = max(round(math.log2(before[1] / after[1])), 0)
    layers: list[nn.Module] = [nn.Conv2d(before[0], narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
    for stride in [2] * halvings or [1]:
        layers += [nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(narrow, after[0], 1, bias=False), nn.BatchNorm2d(after[0]))


def exits_of(role: Role, *, copies: bool = False) -> Sequence[Role]:
    """An end after each stage of a network but its last, each a network that shares all before it.

    Args:
        role: the network.
        copies: whether exits are copies of the stages left out, with new first weights; else a bottleneck each, to the
            shape of the last map.

    Returns:
        A ModuleList, called "exit 1", ... of the student and "peer 2 exit 1", ... of others.

    Raises:
        ValueError: the network has one stage only, or does not tell its stages apart.
    """
    stages = role.shapes.stages
    if len(stages) < 2:
        raise ValueError(f"the {role.name} has one stage only, so there is nothing before its end to hang an exit on; choose "
                         "one with more, like resnet8")
    whose = "" if role.name == "student" else f"{role.name} "
    return nn.ModuleList([  # type: ignore[return-value]
        role.fork(number, f"{whose}exit {number}", None if copies else [bottleneck(before, stages[-1])])
        for number, before in enumerate(stages[:-1], start=1)])


def exit_answers(end: ModelOutput, exits: Sequence[Role]) -> list[ModelOutput]:
    """What the exits of a network answer, given what its end does."""
    return [leave.onward(end.stages[number - 1], number) for number, leave in enumerate(exits, start=1)]


def answers_of(members: Iterable[nn.Module], pictures: Tensor) -> list[ModelOutput]:
    """What each of several roles says of pictures [B, C, H, W], for a network that is made of them.

    They are asked anew and forget the answer: who measures the time asks the same pictures again.
    """
    answers = []
    for member in members:
        assert isinstance(member, Role)
        answers.append(member(pictures, fresh=True))
        member.forget()
    return answers


class MeanEnsemble(nn.Module):
    """A student and those beside it as one network, which answers with the mean of their logits.

    Args:
        student: the first.
        branches: the others.
        shared: how many stages they share; None for none.
    """

    branches: Sequence[Role]

    def __init__(self, student: Role, branches: Sequence[Role], shared: int | None = None) -> None:
        super().__init__()
        self.student, self.shared = student, shared
        self.branches = nn.ModuleList(branches)  # type: ignore[assignment]
        self.model = f"{student.model} with {1 + len(branches)} " + ("networks" if shared is None else "branches")

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        shared = {} if self.shared is None else {"shared": self.shared}  # a part of None is one that cannot be told
        return {"student": self.student, "branches": list(self.branches), **shared}

    def forward(self, asked: Batch | Tensor) -> ModelOutput:
        """The logits of all together; all else is the student's."""
        answers = ends(self.student, self.branches, self.shared, asked)
        return answers[0].replace(logits=self.combined(answers))

    def combined(self, answers: Sequence[ModelOutput]) -> Tensor:
        """The logits of all together, from the answer of each."""
        return torch.stack([answer.logits for answer in answers]).mean(dim=0)


class Branched(Method):
    """A method whose student learns beside others of its kind, by one optimizer: its branches, or separate networks.

    Args:
        others: how many they are.
        shared: how many stages they share with the student; 0 for the stem alone, None for separate networks.
        called: what each is called, before its number.
    """

    branches: Sequence[Role]

    def __init__(self, *, others: int, shared: int | None, called: str = "branch") -> None:
        super().__init__()
        self.count, self.shared, self.called = others, shared, called

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, after separate networks have come."""
        if self.shared is None:
            run.networks.peers = run.factory.peers(self.count)
        yield from super().phases(run)

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow the branches.

        Raises:
            ValueError: the student has no stage left to split.
        """
        shared = self.shared
        self.branches = nn.ModuleList([] if shared is None else [  # type: ignore[assignment]
            networks.student.fork(shared, f"{self.called} {number}") for number in range(2, self.count + 2)])

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """One: all learn by one optimizer."""
        return {"student": [networks.student, *networks.peers, self]}

    def beside(self, networks: Networks) -> list[Role]:
        """Those that learn beside the student."""
        return [*networks.peers, *self.branches]

    def answers(self, networks: Networks, batch: Batch) -> list[ModelOutput]:
        """What the student and those beside it say."""
        return ends(networks.student, self.beside(networks), self.shared, batch)

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and each beside it."""
        return {"student": networks.student, **{role.name: role for role in self.beside(networks)}}
