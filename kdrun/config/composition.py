"""A job composed of its words, and the words that name what there is not: told without any of kdrun's heavy code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kdrun.config import presets, registry, schema, validation
from kdrun.config.constraints import annotations, closest, misfit
from kdrun.config.schema import ConfigError
from kdrun.utils.wording import formatted

__all__ = ["Composed", "composed", "group_choices", "reasons", "without_code"]


@dataclass(frozen=True)
class Composed:
    """A job as Hydra composes it.

    Attributes:
        words: those that there are such choices and keys for.
        problems: a line for each other one.
        cfg: of the words; None where they cannot be composed.
    """

    words: list[str]
    problems: list[str]
    cfg: DictConfig | None


def composed(words: Sequence[str], search: Sequence[str]) -> Composed:
    """Compose a job, without the choices and keys that there are not."""
    good, lines = choices(words)
    try:
        cfg = compose("config", [*good, *search], return_hydra_config=True)
    except Exception as error:
        good, wrong = known_settings(good, search)
        lines += wrong
        try:
            if not wrong:
                raise
            cfg = compose("config", [*good, *search], return_hydra_config=True)
        except Exception as deeper:
            told = reasons(deeper)
            if told is None:
                raise
            return Composed(good, lines or told or [str(error)], None)
    return Composed(good, lines, cfg)


def without_code(words: Sequence[str]) -> list[str] | None:
    """A line for everything wrong with words that choose and set nothing but what can be checked without the code.

    Importing that takes two seconds, too long to wait for being told of a slip. None where other settings are among the
    words: whatever is wrong with those is told at once too.
    """
    groups, own = group_choices(), annotations(schema.RunSettings)
    found = []
    for override in OverridesParser.create().parse_overrides(list(words)):
        key = override.key_or_group
        if key in groups:
            continue
        if key not in own or key == "device" or override.type is not OverrideType.CHANGE:
            return None
        if reason := misfit(value := override.value(), own[key]):
            found.append(f"{key}: got {formatted(value)}, wanted {reason}")
    return found


def choices(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Look at the choices of groups: (the words without the wrong ones, a line for each wrong one)."""
    good, lines = [], []
    groups = group_choices()
    for override in OverridesParser.create().parse_overrides(list(words)):
        group = override.key_or_group
        assert override.input_line is not None
        if override.is_delete() or group not in groups:
            good.append(override.input_line)
            continue
        value, known = override.value(), groups[group]
        several = group == "experiment" and isinstance(value, list)
        hints = presets.names() if group == "experiment" else known  # with the rows, too many to list
        if several or isinstance(value, dict) or value in hints:
            good.append(override.input_line)
        elif isinstance(value, list):
            lines.append(f"{group}: got {formatted(value)}, wanted one {group}"
                         + (", or several by teachers=[...]" if group == "teacher" else ""))
        else:
            name = value if isinstance(value, str) else formatted(value)
            lines.append(f"unknown {group} '{name}'" + (closest(name, hints) or f"; there is {', '.join(known) or 'none'}"))
    return good, lines


def known_settings(words: Sequence[str], search: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the settings that there are from those that there are not: (good ones, a line for each other one)."""
    good: list[str] = []
    bases: list[Override] = []
    settings: list[Override] = []
    groups = group_choices()
    slots = [f"{owner}/{slot}" for owner, names in schema.SLOTS.items() for slot in names]
    for override in OverridesParser.create().parse_overrides(list(words)):
        assert override.input_line is not None
        group = override.key_or_group
        if override.is_delete() or override.is_add() or group.startswith("hydra"):
            good.append(override.input_line)
        elif group in slots:
            bases.append(override)
        elif group in groups:
            good.append(override.input_line)
        else:
            settings.append(override)
    try:
        cfg = compose("config", [*good, *search], return_hydra_config=True)
    except Exception:
        return list(words), []
    wrong = []
    made = cfg.hydra.runtime.choices
    for override in bases:
        group, _, slot = override.key_or_group.partition("/")
        if override.key_or_group in made:
            good.append(str(override.input_line))
        else:
            having = [name for name in registry.options(group) if slot in schema.usual_parts(name, group)]
            wrong.append(f"{override.input_line}: {group}={made[group]} has no {slot}; " + ", ".join(having)
                         + (" have one" if len(having) > 1 else " has one"))
    if bases:
        cfg = compose("config", [*good, *search], return_hydra_config=True)
    whole: Any = OmegaConf.to_container(cfg, resolve=False)
    values = {key: value for key, value in whole.items() if key != "hydra"}
    for override in settings:
        line = validation.unknown_key(override.key_or_group, values)
        if line is None:
            good.append(str(override.input_line))
        else:
            wrong.append(line)
    return good, wrong


def group_choices() -> dict[str, list[str]]:
    """The groups of the command line and their choices."""
    names = {group: list(registry.options(group)) for group in ("dataset", "method", "scheme", "recipe", "launch", "sweep",
                                                                 "experiment")}
    slots = {f"{group}/{slot}": list(dict.fromkeys([*registry.options(f"{group}/{slot}"), *names[group]]))
             for group, own in schema.SLOTS.items() for slot in own}
    networks = list(registry.options("model"))
    return {**names, **slots, "teacher": networks, "student": networks}


def reasons(error: BaseException) -> list[str] | None:
    """What to tell of an error that is the user's to mend; None for any other."""
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, YAMLError):
        return ["a config file is not YAML: " + " ".join(str(error).split())]
    if isinstance(error, OmegaConfBaseException):
        return [schema.omegaconf_reason(error)]
    if isinstance(error, HydraException):
        text = str(error).partition("Config search path:")[0]
        head, *listed = (" ".join(line.split()) for line in text.replace(":\n", ": ").splitlines() if line.strip())
        return [f"{head} {', '.join(listed)}".strip()]
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return [f"cannot use {error.filename}: {error.strerror}"]
    return None
