"""The networks of a run: built from the seed, or trained through the store, or the user's own."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrun import catalogue, distributed
from kdrun.cast import Frozen, Role, frozen
from kdrun.config import TEACHER_OWN, instantiate
from kdrun.data.data import Data
from kdrun.randomness import seeded

__all__ = ["NetworkSpec", "Networks", "load_checkpoint"]


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
    """

    name: str
    settings: dict[str, Any]
    checkpoint: Path | None = None

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> "NetworkSpec":
        """From a config of model/."""
        library = node.get("library")
        settings = {key: value for key, value in node.items() if key not in TEACHER_OWN and (library or key != "name")}
        if library:
            settings["version"] = version(library)  # nothing is built from it, but other code makes another network
        checkpoint = node.get("checkpoint")
        return cls(catalogue.network_name(node), settings, Path(checkpoint) if checkpoint else None)

    def build(self, data: Data) -> nn.Module:
        """The network for this data, with weights from the present generator.

        Raises:
            ValueError: the settings and the data do not fit together.
        """
        given = {"classes": len(data.classes), "channels": data.shape[0], "shape": data.shape}
        return instantiate(self.settings, "network", given)


@dataclass
class Networks:
    """Where schemes and methods get networks from.

    Attributes:
        student_spec: the student's.
        teacher_specs: the teachers'; empty where the method learns from none.
        train: from a teacher's spec and part to a trained network; None in a rehearsal, where untrained ones do.
        follow: from a teacher's spec, part and a number to so many networks on its way; None likewise.
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
    remember: Callable[[Frozen, NetworkSpec, bool], None] | None = None
    memory_format: torch.memory_format = torch.channels_last
    compiled: bool = False

    def build(self, spec: NetworkSpec, part: str) -> Role:
        """A network with the first weights that this seed gives to this part: the same in every run of the seed."""
        with seeded("weights", part, self.seed):
            network = spec.build(self.data.seen(self.view(part)))
        return self.role(network, part, spec.name)

    def role(self, network: nn.Module, part: str, model: str) -> Role:
        """A network in a role, on the run's device and in its memory format."""
        network = distributed.synchronise(network)
        network = network.to(self.device).to(memory_format=self.memory_format)  # type: ignore[call-overload]
        view = self.view(part)
        role = Role(network, part, self.data.seen(view).shape, model, view)
        role.precision, role.memory_format, role.compiled = self.precision, self.memory_format, self.compiled
        return role

    def view(self, part: str) -> str | None:
        """Which view of a sample this part sees: teachers may have one of their own."""
        return "teacher" if part in self.teacher_names and "teacher" in self.data.views else None

    def student(self, generation: int = 0) -> Role:
        """The student with its first weights; later generations start from others."""
        role = self.build(self.student_spec, f"student generation {generation}" if generation else "student")
        role.name = "student"
        return role

    def named(self, name: str, part: str) -> Role:
        """A network of the catalogue."""
        return self.build(NetworkSpec.read(catalogue.network(name)), part)

    def peers(self, wanted: int | list[str]) -> list[Role]:
        """Networks that learn beside the student, which is peer 1: so many like it with other first weights, or these."""
        specs = [self.student_spec] * wanted if isinstance(wanted, int) else \
            [NetworkSpec.read(catalogue.network(name)) for name in wanted]
        return [self.build(spec, f"peer {number}") for number, spec in enumerate(specs, start=2)]

    def trained_teachers(self) -> Iterator[Frozen]:
        """The teachers, trained and frozen."""
        for spec, part in zip(self.teacher_specs, self.teacher_names, strict=True):
            yield self.fixed(self.role(self.train(spec, part), part, spec.name) if self.train else self.build(spec, part), spec)

    def baseline(self) -> Frozen:
        """The student as it is when trained alone, frozen."""
        spec = self.student_spec
        return self.fixed(self.role(self.train(spec, "baseline"), "baseline", spec.name) if self.train
                          else self.build(spec, "student"), spec)

    def trajectory(self, count: int) -> list[Frozen]:
        """The teacher at so many equally distant moments of its training, frozen; the last is the trained teacher."""
        spec, part = self.teacher_specs[0], self.teacher_names[0]
        if self.follow is None:
            return [frozen(self.build(spec, part)) for _ in range(count)]
        return [self.fixed(self.role(network, part, spec.name), spec, stays=False)
                for network in self.follow(spec, part, count)]

    def fixed(self, role: Role, spec: NetworkSpec, stays: bool = True) -> Frozen:
        """A frozen copy, with a memory of its answers where one is wanted."""
        copied = frozen(role)
        if self.remember is not None:
            self.remember(copied, spec, stays)
        return copied

    def untrained_teachers(self) -> list[Role]:
        """The teachers with their first weights."""
        return [self.build(spec, part) for spec, part in zip(self.teacher_specs, self.teacher_names, strict=True)]

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


def load_checkpoint(network: nn.Module, path: Path, name: str) -> None:
    """Load the user's weights: safetensors, or a state dict saved by torch; no code of the file is run.

    Raises:
        ValueError: the file cannot be read, or its weights are not this network's.
    """
    where = f"teacher.checkpoint: {path}"
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
    state = {key.removeprefix("module.").removeprefix("wrapped."): value for key, value in state.items()}
    own = network.state_dict()
    missing, extra = [key for key in own if key not in state], [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or extra or shapes:
        told = [f"{len(missing)} weights missing (first: {missing[0]})"] if missing else []
        told += [f"{len(extra)} unknown (first: {extra[0]})"] if extra else []
        told += [f"{len(shapes)} of another shape (first: {shapes[0]}, {list(state[shapes[0]].shape)} instead of "
                 f"{list(own[shapes[0]].shape)})"] if shapes else []
        raise ValueError(f"{where} does not fit {name}: " + ", ".join(told))
    if bad := [key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]:
        raise ValueError(f"{where} holds NaN or infinity (first: {bad[0]})")
    network.load_state_dict(state)
