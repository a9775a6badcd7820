"""Who plays in a training: what networks answer, and the roles they have."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch

__all__ = ["Cast", "Output", "Role", "frozen"]


class Output(NamedTuple):
    """What every network answers for B pictures and K classes.

    Attributes:
        logits: [B, K].
        embedding: [B, D], pooled, what the classifier sees.
        stages: the map [B, C, H, W] at the end of each stage, after its activation.
        preacts: the same maps before that activation; `stages[i]` is always `relu(preacts[i])`.
        stem: the map before the first stage.
    """

    logits: Tensor
    embedding: Tensor
    stages: tuple[Tensor, ...]
    preacts: tuple[Tensor, ...]
    stem: Tensor

    def detach(self) -> "Output":
        """The same values as constants."""
        return Output(
            self.logits.detach(),
            self.embedding.detach(),
            tuple(maps.detach() for maps in self.stages),
            tuple(maps.detach() for maps in self.preacts),
            self.stem.detach(),
        )


class Shapes(NamedTuple):
    """The shapes of an `Output` without the batch: known before any training, for methods that add modules."""

    logits: torch.Size
    embedding: torch.Size
    stages: tuple[torch.Size, ...]
    preacts: tuple[torch.Size, ...]
    stem: torch.Size


class Role(nn.Module):
    """A network in its role: asked twice about the same batch, it runs once.

    The answer is remembered until another batch is asked about. Once an optimizer has moved the network the remembered
    answer is a constant: who comes later in the same step sees what the network said in this step, at no cost, and
    two peers that learn from each other do so from the same forward pass. `fresh=True` asks for a new pass.

    Args:
        network: answers pictures with an `Output`.
        name: of the role: student, teacher, peer 2, ...
        input_shape: (channels, height, width) of a picture.
        model: the name of the network: resnet8, ...
    """

    def __init__(self, network: nn.Module, name: str, input_shape: tuple[int, ...], model: str = "") -> None:
        super().__init__()
        self.network, self.name, self.input_shape, self.model = network, name, tuple(input_shape), model
        self.precision: torch.dtype | None = None  # autocast to this; None: run in float32
        self._asked: object = None
        self._answer: Output | None = None

    def forward(self, asked: Batch | Tensor, fresh: bool = False) -> Output:
        """Answer a batch, or a tensor of pictures [B, C, H, W]; always in float32 at least, losses need it."""
        if fresh or asked is not self._asked or self._answer is None:
            pictures = asked.x if isinstance(asked, Batch) else asked
            self._answer, self._asked = self._run(pictures), asked
        return self._answer

    def _run(self, pictures: Tensor) -> Output:
        if self.precision is None:
            return self.network(pictures)
        with torch.autocast(pictures.device.type, self.precision):
            output = self.network(pictures)
        return Output(output.logits.float(), output.embedding.float(), tuple(maps.float() for maps in output.stages),
                      tuple(maps.float() for maps in output.preacts), output.stem.float())

    def until(self, stage: int) -> list[nn.Module]:
        """The parts of the network that lead to the end of a stage, counted from 1.

        Raises:
            ValueError: the network does not tell its parts.
        """
        if not hasattr(self.network, "until"):
            raise ValueError(f"{type(self.network).__name__} has no `until(stage)`, so it cannot be trained stage by stage")
        return self.network.until(stage)

    def moved(self) -> None:
        """Turn what is remembered into a constant; the loop says this after each update of this network."""
        if self._answer is not None:
            self._answer = self._answer.detach()

    def forget(self) -> None:
        """Let go of the last batch."""
        self._asked = self._answer = None

    @property
    def shapes(self) -> Shapes:
        """The shapes of the answer to one picture."""
        place = next(self.network.parameters())
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        with torch.no_grad():
            output = self.network(torch.zeros(2, *self.input_shape, device=place.device))
        for module, training in modes:
            module.training = training
        return Shapes(output.logits.shape[1:], output.embedding.shape[1:],
                      tuple(maps.shape[1:] for maps in output.stages),
                      tuple(maps.shape[1:] for maps in output.preacts), output.stem.shape[1:])

    def __deepcopy__(self, memo: dict) -> "Role":
        twin = type(self)(copy.deepcopy(self.network, memo), self.name, self.input_shape, self.model)
        twin.precision = self.precision
        return twin


class Frozen(Role):
    """A role that never learns: no gradient to its weights, batch statistics as they were, `train()` refused.

    Gradients still pass through it to its input, which data-free and Jacobian methods need.
    """

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever a parent module asks."""
        return super().train(False)


def frozen(role: Role, name: str | None = None) -> Frozen:
    """A frozen deep copy of a role, which later updates of the original do not reach."""
    copied = Frozen(copy.deepcopy(role.network), name or role.name, role.input_shape, role.model)
    copied.precision = role.precision
    copied.requires_grad_(False)
    return copied.train(False)


@dataclass
class Cast:
    """The networks of one training: the student, whoever teaches it, and peers that learn beside it."""

    student: Role
    teachers: list[Role] = field(default_factory=list)
    peers: list[Role] = field(default_factory=list)

    @property
    def teacher(self) -> Role:
        """The one teacher.

        Raises:
            ValueError: there is none, or more than one.
        """
        if len(self.teachers) != 1:
            raise ValueError(f"this method needs exactly one teacher, and has {len(self.teachers)}")
        return self.teachers[0]

    def __iter__(self) -> Iterator[Role]:
        yield self.student
        yield from self.teachers
        yield from self.peers
