"""A trained network, as a plain module that can be used anywhere, from what a run or the store keeps of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from kdrun.config.older import upgraded
from kdrun.config.schema import Settings
from kdrun.config.targets import known_targets, strangers
from kdrun.config.validation import problems
from kdrun.data.configured import read_dataset
from kdrun.models.configured import dataset_node, teacher_specs
from kdrun.models.description import Description, Preprocessing, describe
from kdrun.models.factory import NetworkSpec
from kdrun.storage.finished import weights_file
from kdrun.utils.files import text_of

__all__ = ["Loaded", "load"]


class Loaded(NamedTuple):
    """A trained network, ready to be asked.

    Attributes:
        network: in evaluation mode, on the CPU; answers a `kdrun.models.output.ModelOutput`, of which `logits` is one field.
        preprocess: from pictures [B, H, W, C], uint8 or from 0 to 1, to what the network sees; other inputs stay as they are.
        classes: the names of the classes.
        description: how it was made.
    """

    network: nn.Module
    preprocess: Preprocessing
    classes: tuple[str, ...]
    description: Description


def load(path: Path | str, *, role: str = "student", trust: bool = False) -> Loaded:
    """A network that kdrun trained.

    Args:
        path: a file of weights (safetensors), the folder of a run, or that of an entry of the store.
        role: which network of a run's folder: student, peer_2, ...
        trust: whether to run code of others where the file names it; kdrun's own networks, and those that the user's
            configs name, need no trust.

    Raises:
        ValueError: there is no such file, or it does not say how to build its network, or that is other people's code.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        file = path / ("weights.safetensors" if (path / "entry.json").exists() else weights_file(role))
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        with safe_open(file, framework="pt") as opened:
            description = Description.read(opened.metadata())
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no whole file of weights ({error}); expected safetensors") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    description = description or by_record(file, trust)
    if not trust and (foreign := description.strangers()):
        raise ValueError(f"{file} names {', '.join(foreign)}, which no config here does and which may be any code; if you know "
                         "who made the file, give trust=True")
    try:
        network = description.build()
        network.load_state_dict(state)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{file} cannot be built again: {str(error).splitlines()[0]}") from error
    return Loaded(network.eval(), description.preprocessing(), tuple(description.classes), description)


def by_record(file: Path, trust: bool) -> Description:
    """The description of a file that has none, as earlier versions wrote it: by the run.json beside it.

    Raises:
        ValueError: that does not suffice.
    """
    record = file.parent / "run.json"
    if not record.is_file():
        raise ValueError(f"{file} does not say how its network is built (an earlier version wrote it, or it is of a network "
                         f"that a method made of parts), and there is no {record} that would tell")
    try:
        told: Mapping[str, Any] = json.loads(text_of(record))
        settings = Settings(upgraded(told["settings"]), told["choices"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not say how its network is built, and {record} cannot be read ({error})") from error
    if not trust and (lines := strangers(settings.values, known_targets())):
        raise ValueError(f"{record}: {lines[0]}")
    if lines := problems(settings):
        raise ValueError(f"{file} does not say how its network is built, and the settings in {record} do not suit this "
                         f"version: {lines[0]}")
    role = file.stem
    if role not in ("student", "baseline", "teacher"):
        raise ValueError(f"{file} does not say how its network is built, and {record} does not tell of a {role}")
    whole = read_dataset(dataset_node(settings))
    spec = teacher_specs(settings, whole)[0] if role == "teacher" else NetworkSpec.read(settings.student.node, "student")
    data = whole.seen(role).only(spec.classes)
    description = describe(spec.build(data), data, role, spec.name)
    assert description is not None, "a network of a config can always be described"
    assert description.mean or data.task.inputs != "pictures"
    return description
