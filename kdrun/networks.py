"""The networks of a run: built from the seed, or trained through the store, or the user's own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrun import catalogue
from kdrun.cast import Frozen, Role, frozen
from kdrun.config import instantiate, locate
from kdrun.data.data import Data
from kdrun.randomness import seeded

__all__ = ["NetworkSpec", "Networks", "load_checkpoint"]


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
        settings = {key: value for key, value in node.items() if key not in ("name", "checkpoint")}
        checkpoint = node.get("checkpoint")
        return cls(node["name"], settings, Path(checkpoint) if checkpoint else None)

    def build(self, data: Data) -> nn.Module:
        """The network for this data, with weights from the present generator.

        Raises:
            ValueError: the settings and the data do not fit together.
        """
        given = {"classes": len(data.classes), "channels": data.shape[0], "shape": data.shape}
        return instantiate(self.settings, given)

    @property
    def code(self) -> Path | None:
        """The file that defines the network."""
        import inspect

        source = inspect.getsourcefile(locate(self.settings["_target_"]))
        return Path(source) if source else None


@dataclass
class Networks:
    """Where schemes and methods get networks from.

    Attributes:
        student_spec: the student's.
        teacher_specs: the teachers'.
        train: from a teacher's spec and part to a trained network; None in a rehearsal, where untrained ones do.
        follow: from a teacher's spec, part and a number to so many networks on its way; None likewise.
    """

    student_spec: NetworkSpec
    teacher_specs: list[NetworkSpec]
    data: Data
    seed: int
    device: torch.device
    precision: torch.dtype | None
    train: Callable[[NetworkSpec, str], nn.Module] | None
    follow: Callable[[NetworkSpec, str, int], list[nn.Module]] | None

    def build(self, spec: NetworkSpec, part: str) -> Role:
        """A network with the first weights that this seed gives to this part: the same in every run of the seed."""
        with seeded("weights", part, self.seed):
            network = spec.build(self.data)
        return self.role(network, part, spec.name)

    def role(self, network: nn.Module, part: str, model: str) -> Role:
        """A network in a role, on the run's device and in its fastest memory format."""
        role = Role(network.to(self.device, memory_format=torch.channels_last), part, self.data.shape, model)
        role.precision = self.precision
        return role

    def student(self, generation: int = 0) -> Role:
        """The student with its first weights; later generations start from others."""
        role = self.build(self.student_spec, f"student generation {generation}" if generation else "student")
        role.name = "student"
        return role

    def named(self, name: str, part: str) -> Role:
        """A network of the catalogue."""
        return self.build(NetworkSpec.read(catalogue.load("model", name)), part)

    def trained_teachers(self) -> Iterator[Frozen]:
        """The teachers, trained and frozen."""
        for spec, part in zip(self.teacher_specs, self.teacher_names, strict=True):
            yield frozen(self.role(self.train(spec, part), part, spec.name) if self.train else self.build(spec, part))

    def trajectory(self, count: int) -> list[Frozen]:
        """The teacher at so many equally distant moments of its training, frozen; the last is the trained teacher."""
        spec, part = self.teacher_specs[0], self.teacher_names[0]
        if self.follow is None:
            return [frozen(self.build(spec, part)) for _ in range(count)]
        return [frozen(self.role(network, part, spec.name)) for network in self.follow(spec, part, count)]

    def untrained_teachers(self) -> list[Role]:
        """The teachers with their first weights."""
        return [self.build(spec, part) for spec, part in zip(self.teacher_specs, self.teacher_names, strict=True)]

    @property
    def teacher_names(self) -> list[str]:
        """What the teachers are called: teacher, teacher 2, teacher 3, ..."""
        return ["teacher", *(f"teacher {number}" for number in range(2, len(self.teacher_specs) + 1))]


def load_checkpoint(network: nn.Module, path: Path, name: str) -> None:
    """Load the user's weights: safetensors, or a state dict saved by torch; no code of the file is run.

    Raises:
        ValueError: the file cannot be read, or its weights are not this network's.
    """
    where = f"teacher.checkpoint: {path}"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise whatever a damaged file makes them
        raise ValueError(f"{where} cannot be read as weights ({str(error).splitlines()[0][:120]}); save a state dict with "
                         "torch.save or safetensors") from error
    for key in ("state_dict", "model", "model_state_dict", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{where} holds no state dict of tensors")
    state = {key.removeprefix("module."): value for key, value in state.items()}
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
