"""What is written beside weights so that their network can be built again and used: in the file itself, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import Tensor, nn

from kdrun import __version__
from kdrun.config.instantiation import instantiate, locate
from kdrun.config.targets import known_targets, targets
from kdrun.data.data import Data
from kdrun.data.sequences import Inputs, main_tensor
from kdrun.data.stream import Normalise, Unchanged, normaliser
from kdrun.models.roles import Role
from kdrun.tasks.base import Task, task_class

__all__ = ["COMPOSED", "Description", "Preprocessing", "describe", "node_of"]

COMPOSED: Final = "_composed_"  # marks a node whose parts are networks that were built before, not settings
ROLE: Final = f"{Role.__module__}.{Role.__qualname__}"
KEY: Final = "kdrun"  # of the metadata of a safetensors file


@dataclass(frozen=True)
class Description:
    """A trained network, as far as weights do not say it.

    Attributes:
        node: `_target_` and arguments of the network; those of its parts where a method made it of several.
        task: the key of its task.
        classes: the names of the classes.
        shape: of what it sees of one sample.
        info: what else the data told it, by name.
        mean: of each channel of pictures from 0 to 1, or feature of frames; empty where inputs are tokens or stored as such.
        std: likewise.
        modality: in which it sees pictures; None for as they are.
        role: student, teacher, ...
        model: the name of the network.
        kdrun: the version that trained it.
    """

    node: dict[str, Any]
    task: str
    classes: list[str]
    shape: list[int]
    info: dict[str, Any]
    mean: list[float]
    std: list[float]
    modality: str | None
    role: str
    model: str
    kdrun: str = __version__

    @classmethod
    def read(cls, metadata: Mapping[str, str] | None) -> "Description | None":
        """From the metadata of a safetensors file; None where there is none.

        Raises:
            ValueError: it is not what kdrun writes.
        """
        if not metadata or KEY not in metadata:
            return None
        try:
            return cls(**json.loads(metadata[KEY]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"its description is not what kdrun writes ({error})") from error

    @property
    def metadata(self) -> dict[str, str]:
        """For a safetensors file: one entry, so that its bytes are the same every time."""
        return {KEY: json.dumps(asdict(self), sort_keys=True, default=str)}

    def learned(self) -> Task:
        """What the network was trained to do.

        Raises:
            ValueError: there is no such task.
        """
        return task_class(self.task)(tuple(self.classes), tuple(self.shape), self.info)

    def strangers(self) -> list[str]:
        """The `_target_`s that are neither kdrun's own nor named by the user's configs, and may be any code."""
        known = known_targets()
        return sorted({name for name in targets(self.node) if name not in known and not name.startswith("kdrun.")})

    def build(self) -> nn.Module:
        """The network, with weights of no meaning.

        Raises:
            ValueError: it cannot be built.
        """
        return built(self.node, self.learned())

    def preprocessing(self) -> "Preprocessing":
        """What brings stored inputs to the form that the network sees."""
        return Preprocessing(normaliser(self.mean, self.std, self.modality), tuple(self.shape))


class Preprocessing(nn.Module):
    """Pictures as they are stored, to what a network sees (pictures or sequences); other inputs stay as they are.

    Args:
        normalise: does that.
        shape: of what comes out: (channels, height, width), (length, features) or (length,).
    """

    def __init__(self, normalise: Normalise, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.normalise, self.shape = normalise, shape

    def forward(self, inputs: Tensor) -> Inputs:
        """From pictures [B, H, W, C], uint8 from 0 to 255 or floats from 0 to 1, to [B, C, H, W] float32 or sequences.

        Raises:
            ValueError: they are of another size than the network was trained on.
        """
        seen = self.normalise(inputs)
        became = main_tensor(seen).shape[1:]
        if not isinstance(self.normalise, Unchanged) and tuple(became) != self.shape:
            raise ValueError(f"got pictures that become {list(became)}, expected {list(self.shape)}: (channels, height, width)"
                             if len(self.shape) == 3 else
                             f"got pictures that become sequences of {list(became)}, expected {list(self.shape)}")
        return seen


def describe(network: nn.Module, data: Data, role: str, model: str) -> Description | None:
    """A network's description; None where it was made in a way that cannot be told.

    Args:
        network: as `NetworkSpec.build` made it, or of several such.
        data: as the network sees them.
        role: student, teacher, ...
        model: the name of the network.
    """
    node = node_of(network)
    if node is None:
        return None
    normalise = data.normalise
    return Description(node, data.task.key, list(data.classes), list(data.shape), dict(data.task.info),
                       normalise.mean.tolist(), normalise.std.tolist(), normalise.modality, role, model)


def node_of(network: nn.Module) -> dict[str, Any] | None:
    """`_target_` and arguments of a network: noted when it was built, or told by itself where it is of several parts."""
    if isinstance(network, Role):
        inner = node_of(network.network)
        return None if inner is None else {"_target_": ROLE, COMPOSED: True, "network": inner, "name": network.name,
                                           "model": network.model, "view": network.view}
    if (noted := getattr(network, "built_from", None)) is not None:
        return dict(noted)
    parts = getattr(network, "described_parts", None)
    if parts is None:
        return None
    told = {name: [node_of(one) for one in part] if isinstance(part, list) else node_of(part) if isinstance(part, nn.Module)
            else part for name, part in parts().items()}
    if any(part is None or (isinstance(part, list) and None in part) for part in told.values()):
        return None
    kind = type(network)
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", COMPOSED: True, **told}


def built(node: Mapping[str, Any], task: Task) -> Any:
    """What a node stands for."""
    if COMPOSED not in node:
        return task.prepare(instantiate({**node, **quiet(node)}, "network", task.given()))
    kind = locate(node["_target_"], "network")
    parts = {key: made(value, task) for key, value in node.items() if key not in ("_target_", COMPOSED)}
    if kind is Role:
        parts["task"] = task
    return kind(**parts)


def made(value: Any, task: Task) -> Any:
    """An argument of a node of several networks."""
    if isinstance(value, Mapping) and "_target_" in value:
        return built(value, task)
    return [made(one, task) for one in value] if isinstance(value, list) else value


def quiet(node: Mapping[str, Any]) -> dict[str, Any]:
    """A library's own weights are not fetched again: those of the file take their place."""
    return {"weights": None if "library" in node else False} if node.get("weights") else {}
