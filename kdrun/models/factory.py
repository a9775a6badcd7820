"""The networks of a run: built from the seed, or trained through the store, or the user's own."""

import re
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kdrun.config import registry
from kdrun.config.instantiation import instantiate, locate
from kdrun.config.schema import TEACHER_OWN
from kdrun.data.class_parts import in_words
from kdrun.data.data import Data
from kdrun.models.roles import Frozen, Role, frozen
from kdrun.tasks.base import Task, input_kinds
from kdrun.utils import distributed
from kdrun.utils.seeding import seeded

__all__ = ["NetworkFactory", "NetworkSpec", "load_checkpoint"]


def version(library: str) -> str | None:
    """Which version of a library is installed; None where it is not."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: a name for people, and what builds it.

    Attributes:
        name: as results call it.
        settings: `_target_` and its arguments.
        checkpoint: the user's own weights.
        start: whether those are what its training begins from: always a student's, and a teacher's with a new head.
        new_head: whether they are taken without the classifier's, which is of other classes.
        classes: those that it knows, by number; None for all.
    """

    name: str
    settings: dict[str, Any]
    checkpoint: Path | None = None
    start: bool = False
    new_head: bool = False
    classes: tuple[int, ...] | None = None

    @property
    def title(self) -> str:
        """Its name, with the classes that it knows where those are not all."""
        return f"{self.name} ({in_words(self.classes)})" if self.classes else self.name

    @classmethod
    def read(cls, node: Mapping[str, Any], role: Literal["teacher", "student"] = "teacher") -> "NetworkSpec":
        """From a config of model/."""
        library = node.get("library")
        settings = {key: value for key, value in node.items() if key not in TEACHER_OWN and (library or key != "name")}
        if library:
            settings["version"] = version(library)  # nothing is built from it, but other code makes another network
        checkpoint = node.get("checkpoint")
        new_head = node.get("checkpoint_head") == "new"
        return cls(registry.network_name(node), settings, Path(checkpoint) if checkpoint else None,
                   bool(checkpoint) and (role == "student" or new_head), new_head)

    def scaled(self, factor: float) -> "NetworkSpec":
        """The same network with other widths.

        Args:
            factor: of all its widths; whole numbers stay whole, and at least 1.

        Raises:
            ValueError: it has no widths to be changed.
        """
        def times(width: float) -> float:
            return factor * width if isinstance(width, float) else max(1, round(factor * width))

        for key in ("widths", "width"):
            held = self.settings.get(key)
            if isinstance(held, list | int | float):
                wanted = [times(width) for width in held] if isinstance(held, list) else times(held)
                return NetworkSpec(f"{self.name} x{factor:g}", self.settings | {key: wanted})
        raise ValueError(f"{self.name} has no widths that could be scaled; choose one that has, like resnet20, vgg8 or cnn")

    def load(self, network: nn.Module, classes: int) -> str:
        """Load the user's weights into a network of this kind; returns what was done, in a line.

        Raises:
            ValueError: they cannot be read, or are not this network's.
        """
        assert self.checkpoint is not None
        head = head_of(network, classes) if self.new_head else None
        load_checkpoint(network, self.checkpoint, self.name, head)
        return f"{'starts' if self.start else 'taken'} from {self.checkpoint}" + (f", with a new {head}" if head else "")

    def build(self, data: Data) -> nn.Module:
        """The network for this data, or for the classes of it that it knows, with weights from the present generator.

        Raises:
            ValueError: the settings and the data do not fit together.
        """
        kind, task = locate(self.settings["_target_"], "network"), data.task.only(self.classes)
        if not task.fits(kind):
            raise ValueError(f"it sees {' or '.join(input_kinds(kind))} and is no network for {task.key} of "
                             f"{task.inputs}; {' or '.join(fitting(task)) or 'none of kdrun'} would do")
        network = task.prepare(instantiate(self.settings, "network", task.given()))
        network.built_from = dict(self.settings)  # type: ignore[assignment]  # for the description beside its weights
        return network


def fitting(task: Task) -> list[str]:
    """The names of the networks that can learn a task."""
    found = []
    for name in registry.options("model"):
        try:
            if task.fits(locate(registry.load("model", name)["_target_"], "network")):
                found.append(name)
        except (ValueError, KeyError):  # one of a library that is not installed, or of the user's own and broken
            continue
    return found


@dataclass
class NetworkFactory:
    """Where schemes and methods get networks from.

    Attributes:
        student_spec: the student's.
        teacher_specs: the teachers'; empty where the method learns from none.
        train: from a teacher's spec and part to a trained network; None in a rehearsal, where untrained ones do.
        follow: from a teacher's spec, part and a number to so many networks on its way; None likewise.
        stop: from a teacher's spec, part and a share of its epochs to it as a training of so many leaves it; None likewise.
        remember: gives a trained network a memory of its answers, told its spec and whether it stays until the end; None
            where nothing is to be remembered.
        memory_format: of weights and maps.
        compiled: whether networks train through torch.compile.
    """

    student_spec: NetworkSpec
    teacher_specs: list[NetworkSpec]
    data: Data
    seed: int
    device: torch.device
    precision: torch.dtype | None
    train: Callable[[NetworkSpec, str], nn.Module] | None = None
    follow: Callable[[NetworkSpec, str, int], list[nn.Module]] | None = None
    stop: Callable[[NetworkSpec, str, float], nn.Module] | None = None
    remember: Callable[[Frozen, NetworkSpec, bool], None] | None = None
    memory_format: torch.memory_format = torch.channels_last
    compiled: bool = False

    def build(self, spec: NetworkSpec, part: str) -> Role:
        """A network with the first weights that this seed gives to this part: the same in every run of the seed."""
        with seeded("weights", part, self.seed):
            network = spec.build(self.data.seen(self.view(part)))
        return self.role(network, part, spec.name, spec.classes)

    def begun(self, spec: NetworkSpec, part: str) -> Role:
        """A network as its training begins: with the user's own weights, where there are some."""
        role = self.build(spec, part)
        if spec.checkpoint:
            spec.load(role.network, len(role.task.classes))
        return role

    def role(self, network: nn.Module, part: str, model: str, classes: Sequence[int] | None = None) -> Role:
        """A network in a role, on the run's device and in its memory format; of these classes alone where some are given."""
        network = distributed.synchronise(network)
        network = network.to(self.device).to(memory_format=self.memory_format)  # type: ignore[call-overload]
        view = self.view(part)
        role = Role(network, part, self.data.seen(view).task.only(classes), model, view)
        role.precision, role.memory_format, role.compiled = self.precision, self.memory_format, self.compiled
        return role

    def view(self, part: str) -> str | None:
        """Which view of a sample this part sees: teachers may have some of their own."""
        return self.data.view_of(part) if part in self.teacher_names else None

    def student(self, generation: int = 0) -> Role:
        """The student with its first weights; later generations start from others, never the user's."""
        spec = self.student_spec
        role = self.build(spec, f"student generation {generation}") if generation else self.begun(spec, "student")
        role.name = "student"
        return role

    def named(self, name: str, part: str) -> Role:
        """A network of the catalogue."""
        return self.build(NetworkSpec.read(registry.network(name)), part)

    def peers(self, wanted: int | list[str]) -> list[Role]:
        """Networks that learn beside the student, which is peer 1: so many like it with other first weights, or these."""
        specs = [self.student_spec] * wanted if isinstance(wanted, int) else \
            [NetworkSpec.read(registry.network(name)) for name in wanted]
        return [self.build(spec, f"peer {number}") for number, spec in enumerate(specs, start=2)]

    def scaled_peers(self, factors: list[float]) -> list[Role]:
        """Networks that learn beside the student, which is peer 1: the same, with widths so many times as large.

        Raises:
            ValueError: the student has no widths.
        """
        return [self.build(self.student_spec.scaled(factor), f"peer {number}") for number, factor in enumerate(factors, 2)]

    def trained_teachers(self) -> Iterator[Frozen]:
        """The teachers, trained and frozen."""
        for spec, part in zip(self.teacher_specs, self.teacher_names, strict=True):
            role = self.begun(spec, part) if self.train is None else self.role(self.train(spec, part), part, spec.name,
                                                                               spec.classes)
            yield self.fixed(role, spec)

    def baseline(self) -> Frozen:
        """The student as it is when trained alone, frozen."""
        spec = self.student_spec
        return self.fixed(self.role(self.train(spec, "baseline"), "baseline", spec.name) if self.train
                          else self.begun(spec, "student"), spec)

    def trajectory(self, count: int) -> list[Frozen]:
        """The teacher at so many equally distant moments of its training, frozen; the last is the trained teacher."""
        spec, part = self.teacher_specs[0], self.teacher_names[0]
        if self.follow is None:
            return [frozen(self.build(spec, part)) for _ in range(count)]
        return [self.fixed(self.role(network, part, spec.name), spec, stays=False)
                for network in self.follow(spec, part, count)]

    def stopped_early(self, share: float) -> Frozen:
        """The teacher as it is after a training of a share of its epochs, over which its schedule runs whole; frozen.

        Raises:
            ValueError: it is the user's own, and trained already.
        """
        spec, part = self.teacher_specs[0], self.teacher_names[0]
        if spec.checkpoint and not spec.start:
            raise ValueError(f"the teacher is trained already ({spec.checkpoint}), so nothing of that can be left out; leave "
                             "teacher.checkpoint out")
        if self.stop is None:
            return frozen(self.begun(spec, part))
        return self.fixed(self.role(self.stop(spec, part, share), part, spec.name), spec)

    def fixed(self, role: Role, spec: NetworkSpec, stays: bool = True) -> Frozen:
        """A frozen copy, with a memory of its answers where one is wanted."""
        copied = frozen(role)
        if self.remember is not None:
            self.remember(copied, spec, stays)
        return copied

    def untrained_teachers(self) -> list[Role]:
        """The teachers as their training begins."""
        return [self.begun(spec, part) for spec, part in zip(self.teacher_specs, self.teacher_names, strict=True)]

    @property
    def teacher_names(self) -> list[str]:
        """What the teachers are called: teacher, teacher 2, teacher 3, ..."""
        return [f"teacher {number}" if number > 1 else "teacher" for number in range(1, len(self.teacher_specs) + 1)]


def read_weights(path: Path) -> Any:
    """What a file of weights holds; tensors and plain containers only, so no code of the file is run."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with warnings.catch_warnings():  # of what it then refuses
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def head_of(network: nn.Module, classes: int) -> str:
    """The name of a network's classifier: of its last layer that has an output for each class.

    Raises:
        ValueError: there is none.
    """
    network = getattr(network, "wrapped", network)
    found = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
             and classes == (layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)]
    if not found:
        raise ValueError(f"checkpoint_head: it has no layer of {classes} outputs that could be the new classifier")
    return found[-1]


PREFIXES = ("module.", "model.", "wrapped.", "net.", "network.")  # of DistributedDataParallel, Lightning, kdrun, ...


def own_name(key: str, own: Container[str]) -> str:
    """What a network calls a weight that a file has under a name of wrappers around the network."""
    key = key.replace("_orig_mod.", "")  # torch.compile's
    while key not in own and (prefix := next((one for one in PREFIXES if key.startswith(one)), None)):
        key = key.removeprefix(prefix)
    return key


def load_checkpoint(network: nn.Module, path: Path, name: str, new_head: str | None = None) -> None:
    """Load the user's weights: safetensors, or a state dict saved by torch; no code of the file is run.

    Args:
        network: takes the weights.
        path: the file.
        name: of the network, for people.
        new_head: the layer that keeps its own weights; None for none.

    Raises:
        ValueError: the file cannot be read, or its weights are not this network's.
    """
    where = f"checkpoint: {path}"
    try:
        state = read_weights(path)
    except Exception as error:  # the readers raise whatever a damaged file makes them
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = (f"holds Python objects ({code[1]}), which may run code" if code else
                  "is not a whole file of weights") + "; wanted a state dict saved by torch.save or safetensors"
        raise ValueError(f"{where} {reason}") from error
    for key in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise ValueError(f"{where} holds no state dict of named tensors")
    network = getattr(network, "wrapped", network)  # a library's names for the weights are those of its files
    own = network.state_dict()
    state = {own_name(key, own): value for key, value in state.items()}
    if new_head is not None:
        head = {key: value for key, value in own.items() if key.startswith(f"{new_head}.")}
        state = {key: value for key, value in state.items() if key not in head} | head
    missing, extra = [key for key in own if key not in state], [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or extra or shapes:
        told = [f"{len(missing)} weights missing (first: {missing[0]})"] if missing else []
        told += [f"{len(extra)} unknown (first: {extra[0]})"] if extra else []
        told += [f"{len(shapes)} of another shape (first: {shapes[0]}, {list(state[shapes[0]].shape)} instead of "
                 f"{list(own[shapes[0]].shape)})"] if shapes else []
        hint = ""
        if shapes and not missing and not extra and new_head is None and {key.rpartition(".")[0] for key in shapes} == {
                shapes[-1].rpartition(".")[0]}:
            hint = "; checkpoint_head=new leaves that layer out and trains a new one"
        raise ValueError(f"{where} does not fit {name}: " + ", ".join(told) + hint)
    if bad := [key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]:
        raise ValueError(f"{where} holds NaN or infinity (first: {bad[0]})")
    network.load_state_dict(state)
