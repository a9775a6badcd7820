"""The configuration: what Hydra composed, as typed settings."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from omegaconf import DictConfig, ListConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kdrun.config import registry, speed
from kdrun.config.constraints import AtLeastOne, Count, Few, Fraction, NetworkName, Positive
from kdrun.config.recipe import Recipe
from kdrun.config.speed import SpeedSettings
from kdrun.utils.wording import formatted

__all__ = ["GROUPS", "SLOTS", "STUDENT_OWN", "TEACHER_OWN", "UNSET", "ConfigError", "MeasureSettings", "NetworkSettings",
           "RunSettings", "Settings", "TeacherSettings", "own_recipe", "teacher_recipe"]

GROUPS = ("dataset", "teacher", "student", "method", "scheme", "recipe")
Node = Mapping[str, Any]  # what a group's choice holds: `_target_` and the arguments of what is built from it
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
    teacher_classes: Few | list[list[Count]] | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """A network in a role.

    Attributes:
        node: its `_target_` and arguments, and what the role adds to them.
        checkpoint: weights of the user's own; None for none.
        new_head: whether those are taken without the classifier's.
    """

    node: Node
    checkpoint: Path | None
    new_head: bool

    @property
    def name(self) -> str:
        """What results call it."""
        return registry.network_name(self.node)

    @property
    def trained_by_user(self) -> bool:
        """Whether it is taken from a file as it is, so that nothing trains it."""
        return self.checkpoint is not None and not self.new_head


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(NetworkSettings):
    """The teacher.

    Attributes:
        recipe: settings of the recipe that are its own; None for the run's recipe.
        remember: whether its answers are remembered on disk; `half` for in half precision.
        remember_gb: how much disk they may take, 10^9 bytes.
    """

    recipe: Mapping[str, Any] | None
    remember: bool | Literal["half"]
    remember_gb: float


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

    @cached_property
    def run(self) -> RunSettings:
        """The settings outside every group.

        Raises:
            ConfigError: another version recorded them, without one that is needed here.
        """
        return RunSettings(**self.typed(self.values, RunSettings))

    @cached_property
    def measures(self) -> MeasureSettings:
        """What the distillation score weighs."""
        return MeasureSettings(**self.typed(self.values["measures"], MeasureSettings, "measures."))

    @cached_property
    def speed(self) -> SpeedSettings:
        """How the arithmetic is done."""
        return SpeedSettings(**self.typed(self.values["speed"], SpeedSettings, "speed."))

    @cached_property
    def recipe(self) -> Recipe:
        """How networks are trained."""
        return Recipe(**self.typed(self.values["recipe"], Recipe, "recipe."))

    @cached_property
    def teacher_recipe(self) -> Recipe:
        """How teachers are trained that are trained first."""
        return Recipe(**teacher_recipe(self.values)) if own_recipe(self.values) else self.recipe

    @property
    def student(self) -> NetworkSettings:
        """The student."""
        return NetworkSettings(**network_parts(self.values["student"]))

    @property
    def teacher(self) -> TeacherSettings:
        """The teacher, which may have siblings (`run.teachers`)."""
        node = {**TEACHER_OWN, **self.values["teacher"]}  # what earlier versions recorded lacks some
        return TeacherSettings(**network_parts(self.values["teacher"]), recipe=node["recipe"], remember=node["remember"],
                               remember_gb=node["remember_gb"])

    def node(self, group: str) -> Node:
        """What is built from a group: dataset, method, scheme, launch or sweep."""
        return self.values[group]

    @staticmethod
    def typed(values: Mapping[str, Any], schema: type, place: str = "") -> dict[str, Any]:
        """Those of some values that a dataclass has.

        Raises:
            ConfigError: one is missing that has no default.
        """
        known = fields(schema)
        if missing := [one.name for one in known if one.name not in values and one.default is MISSING]:
            raise ConfigError([f"{place}{name} is not set; another version of kdrun recorded these settings"
                               for name in missing])
        return {one.name: values[one.name] for one in known if one.name in values}

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


def network_parts(node: Node) -> dict[str, Any]:
    """The arguments of `NetworkSettings`."""
    checkpoint = node.get("checkpoint")
    return {"node": node, "checkpoint": Path(checkpoint) if checkpoint else None,
            "new_head": node.get("checkpoint_head") == "new"}


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
    changed = ", ".join(f"{key}={value if isinstance(value, str) else formatted(value)}" for key, value in own.items()
                        if value != run.get(key))
    return {**run, **({"name": f"{run.get('name')} ({changed})"} if changed else {}), **own}


def own_recipe(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The whole recipe of the teachers without its name, where it is not the run's; None where it is."""
    teachers, run = ({key: value for key, value in recipe.items() if key != "name"}
                     for recipe in (teacher_recipe(values), values["recipe"]))
    return None if teachers == run else teachers
