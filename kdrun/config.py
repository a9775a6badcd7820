"""The configuration: how it is composed, what fits in it, and every way in which a given one does not."""

import dataclasses
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrun import __version__, catalogue
from kdrun.bounds import AtLeastOne, Count, Fraction, NetworkName, Positive, annotations, closest, misfit

__all__ = ["MeasureSettings", "Refused", "RunSettings", "Settings", "identity", "instantiate", "locate", "problems",
           "register", "run_folder"]

GROUPS = ("dataset", "teacher", "student", "method", "scheme", "recipe")


class Refused(ValueError):
    """A run that cannot be started, with everything that is wrong with it.

    Attributes:
        problems: a line each.
    """

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(kw_only=True)
class MeasureSettings:
    """What the distillation score weighs."""

    alpha: Fraction
    size_unit: Literal["parameters", "bytes", "bits"]


@dataclass(kw_only=True)
class RunSettings:
    """The settings outside every group."""

    seed: Count
    teachers: list[NetworkName] | None
    outputs: str
    rerun: bool
    device: str
    precision: Literal["fp32", "bf16"]
    threads: AtLeastOne | None
    checkpoint_seconds: Positive
    measures: dict


@dataclass(frozen=True)
class Settings:
    """A configuration in plain Python.

    Attributes:
        values: every setting.
        choices: the choice made in each group.
    """

    values: dict[str, Any]
    choices: dict[str, str]

    @classmethod
    def read(cls, cfg: DictConfig, choices: Mapping[str, Any]) -> "Settings":
        """From what Hydra composed.

        Raises:
            Refused: something needed is not set, or refers to what is not there.
        """
        cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        if missing := sorted(OmegaConf.missing_keys(cfg)):
            raise Refused([f"{key} is not set; give {key}=..." for key in missing])
        try:
            values = OmegaConf.to_container(cfg, resolve=True)
        except OmegaConfBaseException as error:
            raise Refused([str(error).splitlines()[0]]) from error
        assert isinstance(values, dict)
        return cls(values, {group: str(choices.get(group)) for group in (*GROUPS, "method/base") if group in choices})

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.values["seed"]

    @property
    def outputs(self) -> Path:
        """Where everything is written."""
        return Path(self.values["outputs"]).absolute()

    @property
    def method(self) -> str:
        """The key of the method, with that of its base where another than the default was chosen."""
        base = self.choices.get("method/base")
        own = catalogue.load("method", self.choices["method"]).get("defaults", [])
        usual = next((entry["base"] for entry in own if isinstance(entry, dict) and "base" in entry), None)
        return self.choices["method"] + (f"+{base}" if base and base != usual else "")


def identity(settings: Settings) -> str:
    """A digest of everything that the results depend on: equal digests, equal runs."""
    ignored = {"outputs", "rerun", "threads", "checkpoint_seconds"}
    values = {key: value for key, value in settings.values.items() if key not in ignored}
    checkpoint = values.get("teacher", {}).get("checkpoint")
    if checkpoint and Path(checkpoint).is_file():
        from kdrun.files import digest_of

        values["teacher"] = {**values["teacher"], "checkpoint": digest_of(Path(checkpoint))}
    whole = json.dumps([__version__, settings.choices, values], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()


def run_folder(settings: Settings) -> Path:
    """The folder of a run: readable, and named by content."""
    scheme = settings.choices["scheme"]
    parts = [settings.choices["dataset"], settings.method, *([scheme] if scheme != "offline" else []),
             settings.choices["student"], f"s{settings.seed}", identity(settings)[:8]]
    return settings.outputs / "runs" / "-".join(parts)


def register(folders: Collection[Path]) -> None:
    """Tell Hydra what is not in files: the roles that share the networks, the bases of curricula, the folder's name."""
    from hydra.core.config_store import ConfigStore

    catalogue.use(folders)
    store = ConfigStore.instance()
    for role, own in (("teacher", {"checkpoint": None}), ("student", {})):
        for name in catalogue.options("model"):
            store.store(group=role, name=name, node={"defaults": [{"/model@_here_": name}, "_self_"], **own})
    for name in catalogue.options("method"):
        store.store(group="method/base", name=name, node={"defaults": [{"/method@_here_": name}]})

    def folder(*, _root_: DictConfig) -> str:
        return str(run_folder(Settings.read(_root_, _root_.hydra.runtime.choices)))

    OmegaConf.register_new_resolver("run_folder", folder, replace=True)


def locate(target: str) -> Callable[..., Any]:
    """The class or function of a `_target_`.

    Raises:
        ValueError: there is none.
    """
    module, _, name = str(target).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {target} ({error})") from error


def instantiate(node: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Any:
    """Call a node's `_target_` with the node's settings and those of `given` that it asks for."""
    target = locate(node["_target_"])
    wanted = inspect.signature(target).parameters
    settings = {key: instantiate(value) if isinstance(value, Mapping) and "_target_" in value else value
                for key, value in node.items() if key in wanted}
    return target(**settings, **{key: value for key, value in (given or {}).items() if key in wanted})


def misfits(place: str, node: Any, target: Any, ignored: Collection[str] = ()) -> list[str]:
    """Compare a group's settings with the signature of what they are for: unknown, missing and misfitting ones."""
    wanted = {key: parameter for key, parameter in inspect.signature(target).parameters.items() if key != "self"}
    if not isinstance(node, Mapping):
        return [f"{place} must be a group of settings, got {node!r}"]
    kinds = annotations(target)
    found = []
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in wanted.values())
    for key, value in node.items():
        if key == "_target_" or key in ignored:
            continue
        if key not in wanted:
            if not takes_all:
                known = [name for name in wanted if name not in NETWORK_GIVEN]
                found.append(f"unknown key '{key}' in {place}" + (closest(key, known) or f"; it has {', '.join(known)}"))
        elif isinstance(value, Mapping) and "_target_" in value:
            found += target_misfits(f"{place}.{key}", value)
        elif reason := misfit(value, kinds.get(key, Any)):
            found.append(f"{place}.{key}: got {value!r}, wanted {reason}")
    found += [f"{place}.{key} is not set" for key, parameter in wanted.items()
              if key not in node and key not in ignored and parameter.default is parameter.empty
              and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
    return found


NETWORK_GIVEN = ("classes", "channels", "shape")  # what a network is told of the data


def target_misfits(place: str, node: Any, ignored: Collection[str] = ()) -> list[str]:
    """`misfits` with the signature of the node's own `_target_`."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return [f"{place} must be a choice of its group, got {node!r}"]
    try:
        target = locate(node["_target_"])
    except ValueError as error:
        return [f"{place}._target_: {error}"]
    return misfits(place, node, target, ignored)


def problems(settings: Settings) -> list[str]:
    """Everything in a configuration that cannot be, a line each: nothing is read or trained to find out."""
    from kdrun.data.data import DatasetSettings
    from kdrun.method import Curriculum
    from kdrun.recipe import Recipe

    values = settings.values
    found = [f"unknown key '{key}'" + closest(key, [*known_keys(RunSettings), *GROUPS])
             for key in values if key not in {*known_keys(RunSettings), *GROUPS}]
    found += misfits("the configuration", {key: value for key, value in values.items() if key not in GROUPS}
                     if not found else {key: values[key] for key in known_keys(RunSettings) if key in values}, RunSettings)
    found = [line.replace("the configuration.", "") for line in found]
    found += misfits("measures", values.get("measures"), MeasureSettings)
    found += misfits("recipe", values.get("recipe"), Recipe)
    common = known_keys(DatasetSettings)
    dataset = values.get("dataset")
    found += target_misfits("dataset", dataset, ignored=common)
    if isinstance(dataset, Mapping):
        found += misfits("dataset", {key: value for key, value in dataset.items() if key in common}, DatasetSettings)
    for role, own in (("teacher", ("name", "checkpoint")), ("student", ("name",))):
        node = values.get(role)
        found += target_misfits(role, node, ignored=(*own, *NETWORK_GIVEN))
        if isinstance(node, Mapping) and not isinstance(node.get("name"), str):
            found.append(f"{role}.name: got {node.get('name')!r}, wanted a text")
    checkpoint = (values.get("teacher") or {}).get("checkpoint")
    if checkpoint is not None and not Path(str(checkpoint)).is_file():
        found.append(f"teacher.checkpoint: there is no file {Path(str(checkpoint)).absolute()}")
    found += target_misfits("scheme", values.get("scheme"))
    wrong = target_misfits("method", values.get("method"))
    found += wrong
    if not wrong:
        try:
            method = instantiate(values["method"])
        except ValueError as error:
            return [*found, f"method: {error}"]
        scheme = settings.choices["scheme"]
        if scheme not in method.schemes:
            found.append(f"method={settings.choices['method']} does not run under scheme={scheme}; it runs under "
                         + ", ".join(method.schemes))
        if isinstance(method, Curriculum) and "offline" not in method.base.schemes:
            found.append(f"method/base={settings.choices['method/base']} cannot learn from a trained teacher, and "
                         f"method={settings.choices['method']} gives it one")
    return found + device_problems(values.get("device"))


def device_problems(device: Any) -> list[str]:
    """What is wrong with the device asked for."""
    import torch

    if device == "auto" or not isinstance(device, str):
        return []
    try:
        asked = torch.device(device)
    except RuntimeError:
        return [f"device: got {device!r}, wanted auto, cpu or cuda"]
    if asked.type == "cuda" and not torch.cuda.is_available():
        return [f"device: got {device!r}, but torch sees no GPU here; use device=cpu"]
    return []


def known_keys(schema: Any) -> list[str]:
    """The settings of a dataclass."""
    return [field.name for field in dataclasses.fields(schema)]
