"""The roles that networks have in a training."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.sequences import Inputs
from kdrun.models.output import LazyOutput, ModelOutput, Shapes
from kdrun.models.sharing import shared
from kdrun.tasks.base import Task

__all__ = ["STOPPED", "Frozen", "Networks", "Role", "evaluating", "frozen", "learning"]

STOPPED = "stopped teacher"  # what results call a teacher of a shorter training beside the whole one


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Have a network in evaluation mode, and afterwards every part of it as it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Role(nn.Module):
    """A network in its role: asked twice about the same batch, it runs once.

    The answer is remembered until another batch is asked about. Once an optimizer has moved the network the remembered
    answer is a constant: who comes later in the same step sees what the network said in this step, at no cost, and
    two peers that learn from each other do so from the same forward pass. `fresh=True` asks for a new pass.

    Args:
        network: answers inputs with a `ModelOutput`.
        name: of the role: student, teacher, peer 2, ...
        task: what it learns: says which inputs it sees, and which rows its answers have.
        model: the name of the network: resnet8, ...
        view: which of a batch's views it sees; None sees the batch's pictures.

    Attributes:
        shown: what becomes of an answer before it is handed out (for a wrapper of methods, while its base looks at
            networks); None: nothing. What is remembered is the answer itself.
    """

    shown: Callable[[ModelOutput], ModelOutput] | None = None

    def __init__(self, network: nn.Module, name: str, task: Task, model: str = "",
                 view: str | None = None) -> None:
        super().__init__()
        self.network, self.name, self.task, self.model = network, name, task, model
        self.view = view
        self.precision: torch.dtype | None = None  # autocast to this; None: run in float32
        self.memory_format = torch.channels_last
        self.compiled = False  # whether to train through torch.compile
        self._asked: object = None
        self._answer: ModelOutput | None = None

    def forward(self, asked: Batch | Inputs, fresh: bool = False) -> ModelOutput:
        """Answer a batch with its rows, or inputs in the network's own layout; in float32 at least, losses need it."""
        if fresh or asked is not self._asked or self._answer is None:
            self._answer, self._asked = self.answer(asked), asked
            if self.task.dense and isinstance(asked, Batch):
                self._answer = LazyOutput(self._answer, logits=lambda own: self.task.rows(own.logits, asked),
                                          dense=lambda own: own.logits)
        return self._answer if self.shown is None else self.shown(self._answer)

    def answer(self, asked: Batch | Inputs) -> ModelOutput:
        """One pass through the network."""
        return self._run(self.inputs(asked), self.network)

    def inputs(self, asked: Batch | Inputs) -> Inputs:
        """What this network sees of what it is asked about.

        Raises:
            ValueError: it has a view of its own, and this does not come with that view.
        """
        if self.view is None:
            return asked.x if isinstance(asked, Batch) else asked
        if not isinstance(asked, Batch) or self.view not in asked.views:
            raise ValueError(f"the {self.name} sees another modality than the student, and the method asks it about "
                             "pictures that are not of this modality; choose a dataset other than pair")
        return asked.views[self.view]

    def _run(self, given: Inputs, network: Callable[[Any], ModelOutput]) -> ModelOutput:
        return shared(given, lambda own: self._passed(own, network))

    def _passed(self, given: Inputs, network: Callable[[Any], ModelOutput]) -> ModelOutput:
        if self.memory_format is torch.contiguous_format and isinstance(given, Tensor):
            # batches come with channels last, and maps follow them
            given = given.clone(memory_format=torch.contiguous_format)  # `contiguous()` leaves one channel as it is
        if self.compiled and network is self.network and not torch.is_inference_mode_enabled():
            network = self._fast
        if self.precision is None:
            return network(given)
        with torch.autocast(given.device.type, self.precision):
            output = network(given)
        return output.float()

    @cached_property
    def _fast(self) -> Callable[[Any], ModelOutput]:
        """The network compiled, for each size of batch anew: one size is what a training has."""
        return torch.compile(lambda given: self.network(given), dynamic=False)

    def runs_like(self, other: "Role") -> Self:
        """Take over how another role's network is run, whatever it is; returns itself."""
        self.precision, self.memory_format, self.compiled = other.precision, other.memory_format, other.compiled
        return self

    def until(self, stage: int) -> list[nn.Module]:
        """The parts of the network that lead to the end of a stage, counted from 1.

        Raises:
            ValueError: the network does not tell its parts.
        """
        until = getattr(self.network, "until", None)
        if until is None:
            raise ValueError(f"{type(self.network).__name__} has no `until(stage)`, so it cannot be trained stage by stage")
        return until(stage)

    @property
    def classifier(self) -> str:
        """The name of the network's last linear layer from its embedding to its logits.

        Raises:
            ValueError: there is none.
        """
        shapes = self.shapes
        found = [name for name, layer in self.network.named_modules() if isinstance(layer, nn.Linear)
                 and ((layer.in_features,), (layer.out_features,)) == (tuple(shapes.embedding), tuple(shapes.logits))]
        if not found:
            raise ValueError(f"the {self.name} {self.model} has no linear layer from its embedding to its logits")
        return found[-1]

    def onward(self, maps: Tensor, stage: int) -> ModelOutput:
        """Answer from the map at the end of a stage, counted from 1 and after its activation.

        Raises:
            ValueError: the network does not tell its parts.
        """
        answer = self._run(maps, lambda given: self._parted("onward")(given, stage))
        return answer if self.shown is None else self.shown(answer)

    def through(self, asked: Batch | Inputs, network: Callable[[Any], ModelOutput]) -> ModelOutput:
        """Answer by another function in the network's place, run as the network is; this is not remembered."""
        answer = self._run(self.inputs(asked), network)
        if self.task.dense and isinstance(asked, Batch):
            return answer.replace(logits=self.task.rows(answer.logits, asked), dense=answer.logits)
        return answer

    def changed(self, asked: Batch | Inputs, change: Callable[[int, Tensor], Tensor]) -> ModelOutput:
        """Answer with the map at the end of each stage changed before it goes on; this is not remembered.

        Args:
            asked: a batch, or inputs.
            change: from a stage's number, from 1, and its map after the activation to what goes on. Of several processes
                each changes its part of the batch.

        Raises:
            ValueError: the network does not tell its parts.
        """
        self._parted("onward")
        return self._run(self.inputs(asked), lambda given: self.network(given, change))

    def fork(self, stage: int, name: str, rest: list[nn.Module] | None = None) -> "Role":
        """A network that shares the weights of this one up to the end of a stage and has its own from there on.

        Args:
            stage: the last that is shared, counted from 1.
            name: of the new role.
            rest: its own stages; None for copies of this network's with new first weights.

        Raises:
            ValueError: the network does not tell its parts, or has no stage after the shared ones.
        """
        fork, stages = self._parted("fork"), len(self.shapes.stages)
        if stage >= stages:
            raise ValueError(f"{type(self.network).__name__} has {stages} stages, so at most {stages - 1} can be shared; got "
                             f"{stage}")
        twin = Role(fork(stage, rest), name, self.task, self.model, self.view).runs_like(self)
        return twin.to(self.device).to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def _parted(self, name: str) -> Callable[..., Any]:
        if not hasattr(self.network, name):
            raise ValueError(f"{type(self.network).__name__} does not tell its stages apart, so nothing can branch off them; "
                             "take a student that does (kdrun list networks)")
        return getattr(self.network, name)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((held.device for held in chain(self.network.parameters(), self.network.buffers())), torch.device("cpu"))

    def moved(self) -> None:
        """Turn what is remembered into a constant; the loop says this after each update of this network."""
        if self._answer is not None:
            self._answer = self._answer.detach()

    def forget(self) -> None:
        """Let go of the last batch."""
        self._asked = self._answer = None

    @property
    def shapes(self) -> Shapes:
        """The shapes of the answer to one sample, in the network's own layout."""
        place = next(chain(self.network.parameters(), self.network.buffers()))
        with evaluating(self.network), torch.no_grad():
            return Shapes.of(self.network(self.task.example(2, place.device)))

    def __deepcopy__(self, memo: dict) -> "Role":
        twin = type(self)(copy.deepcopy(self.network, memo), self.name, self.task, self.model, self.view)
        return twin.runs_like(self)


class Frozen(Role):
    """A role that never learns: no gradient to its weights, batch statistics as they were, `train()` refused.

    Gradients still pass through it to its input, which data-free and Jacobian methods need.

    Attributes:
        memory: knows the answers to some batches (`kdrun.storage.teacher_cache`), given the batch and what runs the
            network on any.
    """

    memory: Callable[[Batch, Callable[[Batch], ModelOutput]], ModelOutput | None] | None = None

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever a parent module asks."""
        return super().train(False)

    def answer(self, asked: Batch | Inputs) -> ModelOutput:
        """What is known already, or else one pass through the network."""
        known = self.memory(asked, super().answer) if self.memory and isinstance(asked, Batch) else None
        return super().answer(asked) if known is None else known


def frozen(role: Role, name: str | None = None) -> Frozen:
    """A frozen deep copy of a role, which later updates of the original do not reach."""
    copied = Frozen(copy.deepcopy(role.network), name or role.name, role.task, role.model, role.view)
    copied.runs_like(role).requires_grad_(False)
    return copied.train(False)


def learning(role: Role, name: str) -> Role:
    """A deep copy of a role, frozen or not, that learns on and sees what the original sees."""
    copied = Role(copy.deepcopy(role.network), name, role.task, role.model, role.view)
    copied.runs_like(role).requires_grad_(True)
    return copied


@dataclass
class Networks:
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

    @property
    def device(self) -> torch.device:
        """Where they are, and what a method adds to them goes."""
        return self.student.device

    def paired_stages(self, what: str, maps: Literal["stages", "preacts"] = "stages", hint: str = ""
                      ) -> list[tuple[torch.Size, torch.Size]]:
        """The shapes of the student's and the teacher's stages, pair by pair.

        Args:
            what: pairs them, for people.
            maps: after the activation of each stage, or before it.
            hint: what would do where they do not pair up.

        Raises:
            ValueError: the teacher has more or fewer.
        """
        student, teacher = (getattr(role.shapes, maps) for role in (self.student, self.teacher))
        if len(student) != len(teacher):
            raise ValueError(f"{what} pairs stages, but the student has {len(student)} and the teacher {len(teacher)}"
                             + (f"; {hint}" if hint else ""))
        return list(zip(student, teacher, strict=True))

    def __iter__(self) -> Iterator[Role]:
        yield self.student
        yield from self.teachers
        yield from self.peers
