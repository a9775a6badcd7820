"""The configuration: how it is composed, what it is called, and how what it names is built."""

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kdrun import __version__
from kdrun.config import registry, speed, targets
from kdrun.config.constraints import AtLeastOne, Count, Fraction, NetworkName, Positive, annotations
from kdrun.config.targets import Kind
from kdrun.utils.names import file_name

__all__ = [
    "ConfigError",
    "MeasureSettings",
    "RunSettings",
    "Settings",
    "identity",
    "instantiate",
    "locate",
    "own_recipe",
    "register",
    "run_folder",
    "said",
    "teacher_recipe",
    "told",
]

GROUPS = ("dataset", "teacher", "student", "method", "scheme", "recipe")
STUDENT_OWN: dict[str, Any] = {"checkpoint": None, "checkpoint_head": None}  # beside what networks have
TEACHER_OWN: dict[str, Any] = {**STUDENT_OWN, "recipe": None, "remember": False, "remember_gb": 20}
SLOTS = {"method": ("base", "first", "second", "third"), "dataset": ("base",)}  # what a choice of a group may be made of


class ConfigError(ValueError):
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
    speed: dict


UNSET: Final = object()  # stands for a setting without a value, so that everything else can be checked all the same


@dataclass(frozen=True)
class Settings:
    """A configuration in plain Python.

    Attributes:
        values: every setting.
        choices: the choice made in each group.
    """

    values: dict[str, Any]
    choices: dict[str, str]

    def __post_init__(self) -> None:
        """What stands for something else becomes that, so that whatever records or compares settings has it.

        `threads: null` becomes the number of cores, a recipe's name in `teacher.recipe` its settings.
        """
        values = dict(self.values)
        if values.get("threads", UNSET) is None:
            values["threads"] = speed.cores()
        teacher = values.get("teacher")
        named = teacher.get("recipe") if isinstance(teacher, Mapping) else None
        if isinstance(named, str) and (found := registry.recipe(named)) is not None:
            values["teacher"] = {**values["teacher"], "recipe": found}
        object.__setattr__(self, "values", values)

    @classmethod
    def read(cls, cfg: DictConfig, choices: Mapping[str, Any]) -> "Settings":
        """From what Hydra composed.

        Raises:
            ConfigError: something needed is not set, or refers to what is not there.
        """
        settings, unset = cls.partial(cfg, choices)
        if unset:
            raise ConfigError(unset)
        return settings

    @classmethod
    def partial(cls, cfg: DictConfig, choices: Mapping[str, Any]) -> tuple["Settings", list[str]]:
        """As far as everything is set: the settings, with `UNSET` for what is not, and a line for each of those."""
        unset: list[str] = []
        values = {str(key): plain(cfg, key, str(key), unset) for key in cfg if key != "hydra"}
        groups = (*GROUPS, *(f"method/{slot}" for slot in SLOTS["method"]))
        return cls(values, {group: str(choices[group]) for group in groups if choices.get(group) is not None}), unset

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
        """The key of the method, with those of what it is made of where others than the default ones were chosen."""
        key = self.choices["method"]
        parts = {slot: self.choices[group] for slot in SLOTS["method"] if (group := f"method/{slot}") in self.choices}
        usual = {slot: part for slot, part in usual_parts(key).items() if part is not None}
        return "+".join([key, *parts.values()] if parts != usual else [key])


def plain(cfg: Any, key: Any, place: str, unset: list[str]) -> Any:
    """An entry of a config in plain Python; what has no value is `UNSET`, with a line added to `unset`."""
    try:
        value = cfg[key]
    except MissingMandatoryValue:
        unset.append(f"{place} is not set; give {place}=...")
        return UNSET
    except OmegaConfBaseException as error:
        unset.append(omegaconf_reason(error, place))
        return UNSET
    if isinstance(value, DictConfig):
        return {str(name): plain(value, name, ".".join((place, str(name))), unset) for name in value}
    if isinstance(value, ListConfig):
        items = [plain(value, number, f"{place}[{number}]", unset) for number in range(len(value))]
        return UNSET if UNSET in items else items
    return value


def omegaconf_reason(error: OmegaConfBaseException, place: str | None = None) -> str:
    """What OmegaConf says, in a line that names the key."""
    place = place or error.full_key
    return (f"{place}: " if place else "") + str(error).splitlines()[0]


def usual_parts(name: str, group: str = "method") -> dict[str, str | None]:
    """What a method (or a data set) is made of by default: {"base": "kd"}; None for a part that may be left out."""
    defaults = registry.load(group, name).get("defaults", [])
    return {slot: entry[slot] for entry in defaults if isinstance(entry, dict) for slot in SLOTS[group] if slot in entry}


def teacher_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """How teachers are trained that are trained first: the run's recipe, but for what `teacher.recipe` sets.

    Its name says what that is: "digits (epochs=100)".
    """
    run, teacher = values["recipe"], values["teacher"]
    given = teacher.get("recipe") if isinstance(teacher, Mapping) else None
    own = given if isinstance(given, Mapping) else {}
    changed = ", ".join(f"{key}={value if isinstance(value, str) else told(value)}" for key, value in own.items()
                        if value != run.get(key))
    return {**run, **({"name": f"{run.get('name')} ({changed})"} if changed else {}), **own}


def own_recipe(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The whole recipe of the teachers without its name, where it is not the run's; None where it is."""
    teachers, run = ({key: value for key, value in recipe.items() if key != "name"}
                     for recipe in (teacher_recipe(values), values["recipe"]))
    return None if teachers == run else teachers


def identity(settings: Settings) -> str:
    """A digest of everything that the results depend on: equal digests, equal runs."""
    ignored = {"outputs", "rerun", "checkpoint_seconds", "launch", "sweep"}
    if speed.on_gpu(str(settings.values.get("device"))):
        ignored.add("threads")  # the CPU only feeds the GPU, which does what depends on the order of additions
    values = {key: value for key, value in settings.values.items() if key not in ignored}
    values["speed"] = speed.shaping(values["speed"])
    teacher = values.get("teacher", {})
    exact = {"remember_gb", *({"remember"} if teacher.get("remember") != "half" else ())}  # change no bit of any result
    values["teacher"] = {**{key: value for key, value in teacher.items() if key not in exact}, "recipe": own_recipe(values)}
    for role in ("teacher", "student"):
        checkpoint = values.get(role, {}).get("checkpoint")
        if checkpoint and Path(checkpoint).is_file():
            from kdrun.utils.files import digest_of

            values[role] = {**values[role], "checkpoint": digest_of(Path(checkpoint))}
    whole = json.dumps([__version__, settings.choices, values], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()


def run_folder(settings: Settings) -> Path:
    """The folder of a run: readable, and named by content.

    Raises:
        ValueError: what was chosen cannot be in its name.
    """
    scheme = settings.choices["scheme"]
    parts = [settings.choices["dataset"], settings.method, *([scheme] if scheme != "offline" else []),
             settings.choices["student"], f"s{settings.seed}", identity(settings)[:8]]
    return settings.outputs / "runs" / file_name(*parts)


class Choices(dict[str, Any]):
    """What Hydra's store of configs holds.

    Hydra copies the store for every job that it composes, and then the config that it takes from it once more. With a
    choice for every network and method the first copy takes longer than the rest of the composition.
    """

    def __deepcopy__(self, memo: object) -> "Choices":
        return self


def register(folders: Collection[Path], rows: bool = True) -> None:
    """Tell Hydra what is not in files: the roles that share the networks, the bases of others, the folder's name.

    Args:
        folders: of the user's own configs.
        rows: whether the rows of presets too, which take longer than all else and are seldom asked for.
    """
    from hydra.core.config_store import ConfigStore

    # Hydra takes plugins from a package `hydra_plugins` on the path alone
    plugins = str(Path(__file__).parents[1] / "sweeps" / "plugins")
    if plugins not in sys.path:
        sys.path.append(plugins)
    registry.use(folders)
    store = ConfigStore.instance()
    if not isinstance(store.repo, Choices):
        store.repo = Choices(store.repo)

    def choice(group: str, name: str, node: dict[str, Any]) -> None:
        place = store.repo
        for part in group.split("/"):
            place = place.get(part, {})
        if f"{name}.yaml" not in place:  # by an earlier call: a node depends on its name alone
            store.store(group=group, name=name, node=node)

    for role, own in (("teacher", TEACHER_OWN), ("student", STUDENT_OWN)):
        for name in registry.options("model"):
            choice(role, name, {"defaults": [{"/model@_here_": name}, "_self_"], **own})
    for group, slots in SLOTS.items():
        for name in registry.options(group):
            for slot in slots:
                choice(f"{group}/{slot}", name, {"defaults": [{f"/{group}@_here_": name}]})

    if rows:
        from kdrun.config import presets

        presets.register(store)

    def folder(*, _root_: DictConfig) -> str:
        return str(run_folder(Settings.read(_root_, _root_.hydra.runtime.choices)))

    OmegaConf.register_new_resolver("run_folder", folder, replace=True)
    OmegaConf.register_new_resolver("precision_of", speed.precision_of, replace=True)


def told(value: Any) -> str:
    """A value as YAML would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(told, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {told(entry)}" for key, entry in value.items()) + "}"
    return repr(value)


def locate(target: str, kind: Kind | None = None) -> Callable[..., Any]:
    """The class or function of a `_target_`.

    Args:
        target: the `_target_`.
        kind: what it has to be, if it is to be called.

    Raises:
        ValueError: there is none, or it is not of the kind.
    """
    module, _, name = str(target).rpartition(".")
    if not module:
        raise ValueError(f"got {told(target)}, wanted MODULE.NAME")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs the module, which may fail in any way
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot import {target} ({reason})") from error
    if kind is not None:
        targets.check(found, target, kind)
    return found


def instantiate(node: Mapping[str, Any], kind: Kind, given: Mapping[str, Any] | None = None) -> Any:
    """Call a node's `_target_` with the node's settings and those of `given` that it asks for.

    A setting that names a `_target_` of its own is built too, where its annotation says that it may be.

    Args:
        node: settings with a `_target_`.
        kind: what it has to be; nothing else is called.
        given: what is known beside the settings, by name.

    Raises:
        ValueError: the target is not there, or not of the kind; or it raises that.
    """
    target = locate(node["_target_"], kind)
    wanted, annotated = inspect.signature(target).parameters, annotations(target)

    def built(key: str, value: Any) -> Any:
        inner = targets.nested(annotated.get(key, Any), kind) if isinstance(value, Mapping) and "_target_" in value else None
        return value if inner is None else instantiate(value, inner, given)

    settings = {key: built(key, value) for key, value in node.items() if key in wanted}
    return target(**settings, **{key: value for key, value in (given or {}).items() if key in wanted})


def said(node: Mapping[str, Any], what: Literal["teachers", "knowledge"]) -> str:
    """What a method says of itself; for one that is made of others, what those say.

    As many teachers as suit all of them, and the knowledge of each: "feature+response".
    """
    from kdrun.methods.base import Curriculum

    kind: Any = locate(node["_target_"])
    parts = [said(node[slot], what) for slot in SLOTS["method"]
             if isinstance(node.get(slot), Mapping) and node[slot]["_target_"] is not UNSET]
    if what == "knowledge":
        return "+".join(sorted({name for part in parts for name in part.split("+")} - {"none"})) or kind.knowledge
    if not parts or issubclass(kind, Curriculum):  # which gives its base one after the other
        return kind.teachers
    return next(count for count in ("one", "many", "none") if count in parts)
