"""What makes two runs comparable, and what tells two variants of a method apart: read from run.json's settings.

Pure functions of plain dictionaries: what a run names is never imported.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from kdrun import catalogue
from kdrun.config import SLOTS, own_recipe, teacher_recipe, told
from kdrun.wording import counted

__all__ = ["comparison", "recipe_epochs", "variant"]

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
NO_VALUE = object()


def comparison(run: Mapping[str, Any]) -> str:
    """A label of everything that runs must share to be ranked together, with a digest of it.

    That is all but the method, the scheme, their settings and the seed: "digits, wrn_16_2 → resnet8, digits recipe,
    40 epochs, #1a2b3c".

    Args:
        run: what run.json says.
    """
    settings, threads = run["settings"], cpu_threads(run)
    dataset, recipe, student = settings["dataset"], settings["recipe"], settings["student"]
    teachers = settings.get("teachers") or without(settings["teacher"], "recipe")
    what = {"dataset": place_free(dataset), "recipe": without(recipe, "name"), "student": student, "teacher": teachers,
            "teacher's recipe": own_recipe(settings), "precision": settings.get("precision", "fp32"), "threads": threads}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:6]
    names = "+".join(teachers) if isinstance(teachers, list) else catalogue.network_name(teachers)
    limit = dataset.get("train_limit")
    parts = [f"{dataset['name']} ({counted(limit, 'picture')})" if limit else str(dataset["name"]),
             f"{names}{'*' if isinstance(teachers, dict) and teachers.get('checkpoint') else ''} → "
             f"{catalogue.network_name(student)}",
             f"{recipe['name']} recipe", counted(recipe_epochs(settings), "epoch"),
             *([f"teacher by {teacher_recipe(settings)['name']}"] if own_recipe(settings) else []),
             *([str(settings["precision"])] if settings.get("precision", "fp32") != "fp32" else []),
             *([f"{threads} threads"] if threads not in (1, None) else []), f"#{digest}"]
    return ", ".join(parts)


def cpu_threads(run: Mapping[str, Any]) -> int | None:
    """With how many threads a run computed on the CPU; None on a GPU, whose results do not depend on them.

    The settings of older versions say `null` for all cores; what those were, run.json says beside them.
    """
    if str(run.get("device", "cpu")).startswith("cuda"):
        return None
    return int(run.get("threads") or run["settings"].get("threads") or 1)


def place_free(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's settings without where it lies, for those that are known by their name; also those it is made of."""
    found = {key: place_free(value) if isinstance(value, Mapping) else value for key, value in dataset.items()}
    return without(found, "root", "download") if "reader" in found else found


def without(settings: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The settings without these."""
    return {key: value for key, value in settings.items() if key not in keys}


def recipe_epochs(settings: Mapping[str, Any]) -> int:
    """How long the recipe trains a network."""
    return int(settings["recipe"]["epochs"])


def variant(run: Mapping[str, Any], method: str) -> str:
    """A method's key, and what a run set otherwise than its YAML does: "kd (temperature=8)", "at (self)".

    Args:
        run: what run.json says.
        method: as results.csv names it, with what it is made of.
    """
    settings, choices = run["settings"], run["choices"]
    changed = []
    if written("method", choices["method"]):
        schemes = catalogue.method_card(choices["method"]).schemes
        if schemes and choices["scheme"] != schemes[0]:
            changed.append(choices["scheme"])
        changed += differences(settings["method"], usual("method", choices["method"], choices), settings)
    else:  # a method of the user's own, whose usual settings are not known here
        changed += [choices["scheme"], f"settings {hashlib.sha256(told(settings['method']).encode()).hexdigest()[:6]}"]
    if written("scheme", choices["scheme"]):
        changed += differences(settings["scheme"], usual("scheme", choices["scheme"], {}), settings)
    return f"{method} ({', '.join(changed)})" if changed else method


def usual(group: str, name: str, choices: Mapping[str, str]) -> dict[str, Any]:
    """The settings that a choice has by default, with those of the parts that it is made of."""
    own = written(group, name)
    found: dict[str, Any] = {}
    for entry in own.get("defaults", []):
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if key.startswith("/") and key.endswith("@_here_"):
                found |= usual(key[1:].removesuffix("@_here_"), value, choices)
            elif key in SLOTS["method"] and choices.get(f"method/{key}", value) is not None:
                part = choices.get(f"method/{key}", value)
                found[key] = usual(f"method/{key}" if written(f"method/{key}", part) else "method", part, {})
    return found | {key: value for key, value in own.items()
                    if key != "defaults" and (key not in found or value is not None)}


@cache
def written(group: str, name: str) -> dict[str, Any]:
    """A choice's YAML as it stands there; empty where there is none. Read once: many runs share their choices."""
    return catalogue.load(group, name) if name in catalogue.options(group) else {}


def differences(settings: Mapping[str, Any], default: Mapping[str, Any], whole: Mapping[str, Any],
                above: str = "") -> list[str]:
    """KEY=VALUE of each setting that is not as `default` has it; references there are looked up in the whole of settings."""
    found = []
    for key in sorted({*settings, *default}, key=list({**default, **settings}).index):
        own, usual_value = settings.get(key, NO_VALUE), default.get(key, NO_VALUE)
        if isinstance(usual_value, str) and (match := REFERENCE.fullmatch(usual_value)):
            usual_value = looked_up(whole, match[1])
        if isinstance(own, Mapping) and isinstance(usual_value, Mapping):
            found += differences(own, usual_value, whole, f"{above}{key}.")
        elif own is NO_VALUE:  # a run of a version that did not have it yet
            found.append(f"without {above}{key}")
        elif own != usual_value and (key != "_target_" or usual_value is not NO_VALUE):
            found.append(f"{above}{key}={shown(own)}")
    return found


def looked_up(settings: Any, place: str) -> Any:
    """The value at a dotted key; `NO_VALUE` where there is none."""
    for part in place.split("."):
        settings = settings.get(part, NO_VALUE) if isinstance(settings, Mapping) else NO_VALUE
    return settings


def shown(value: Any) -> str:
    """A value as a command line would have it: a text without its quotes."""
    return value if isinstance(value, str) else told(value)
