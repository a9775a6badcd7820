"""What makes two runs comparable, and what tells two variants of a method apart: read from run.json's settings.

Pure functions of plain dictionaries: what a run names is never imported.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from kdrun.config import registry
from kdrun.config.schema import SLOTS, STUDENT_OWN, TEACHER_OWN, own_recipe, teacher_recipe
from kdrun.utils.wording import counted, formatted

__all__ = ["comparison", "recipe_epochs", "same_label", "variant"]

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
NO_VALUE = object()
OWN_FILES = ("root", "train")  # settings of a data set that say where the user's own files are


def comparison(run: Mapping[str, Any]) -> str:
    """A label of everything that runs must share to be ranked together, with a digest of it.

    That is all but the method, the scheme, their settings and the seed, and what no result depends on; settings that are
    not as the choice of their group has them are named: "digits, wrn_16_2 → resnet8, digits recipe, 40 epochs,
    recipe.lr=0.1, #1a2b3c".

    Args:
        run: what run.json says.
    """
    settings, threads = run["settings"], cpu_threads(run)
    dataset, recipe, student = settings["dataset"], settings["recipe"], settings["student"]
    teachers, classes = settings.get("teachers") or teacher_of(run), settings.get("teacher_classes")
    what = {"dataset": data_of(run), "recipe": without(recipe, "name"), "student": student_of(run), "teacher": teachers,
            "teacher's recipe": own_recipe(settings), "precision": settings.get("precision", "fp32"), "threads": threads,
            **({"teacher_classes": classes} if classes is not None else {})}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:6]
    names = "+".join(teachers) if isinstance(teachers, list) else registry.network_name(teachers)
    limit = dataset.get("train_limit")
    parts = [f"{dataset['name']} ({counted(limit, 'picture')})" if limit else str(dataset["name"]),
             f"{names} → {registry.network_name(student)}",
             *([f"teacher_classes={formatted(classes).replace(', ', ',')}"] if classes is not None else []),
             f"{recipe['name']} recipe", counted(recipe_epochs(settings), "epoch"),
             *([f"teacher by {teacher_recipe(settings)['name']}"] if own_recipe(settings) else []), *set_otherwise(run),
             *([str(settings["precision"])] if settings.get("precision", "fp32") != "fp32" else []),
             *([f"{threads} threads"] if threads not in (1, None) else []), f"#{digest}"]
    return ", ".join(parts)


def same_label(labels: Iterable[str]) -> list[str]:
    """The labels, those with the same digest made the same: of what no result depends on, the first one's name stands."""
    first: dict[str, str] = {}
    return [first.setdefault(label.rpartition("#")[2], label) for label in labels]


def set_otherwise(run: Mapping[str, Any]) -> list[str]:
    """GROUP.KEY=VALUE of each setting of data, networks and recipe that is not as its YAML has it and that `comparison` names
    nowhere else; for a choice whose YAML is not here, all of them.
    """
    settings, choices = run["settings"], run.get("choices", {})
    place = {"root"} if known_by_name(settings["dataset"]) else set()
    named = {"dataset": {"name", "train_limit", "download", *place}, "recipe": {"name", "epochs"}, "student": {"name"},
             "teacher": {"name", "recipe", *({"remember", "remember_gb"} if teacher_of(run).get("remember") != "half" else ())}}
    if settings.get("teachers"):
        del named["teacher"]
    found = []
    for group, own_words in named.items():
        own, kind = without(settings[group], *own_words), "model" if group in ("student", "teacher") else group
        choice = str(choices.get(group, settings[group].get("name")))
        default = usual(kind, choice, {}) | {"teacher": TEACHER_OWN, "student": STUDENT_OWN}.get(group, {})
        if own and not written(kind, choice):
            own = without(own, "_target_")
        default = {key: value for key, value in default.items() if key in own}  # an older run may lack a setting of today
        found += [word.replace(", ", ",") for word in differences(own, default, settings, f"{group}.")]
    contents = {**{f"dataset.{key}": data_content(run) for key in OWN_FILES},
                **{f"{role}.checkpoint": weights_content(run, role) for role in ("teacher", "student")}}
    return [f"{word} ({content[:6]})" if (content := contents.get(word.partition("=")[0])) else word for word in found]


def teacher_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's teacher, without settings that change no bit of any result; weights of the user's own by their content."""
    teacher = without(run["settings"]["teacher"], "recipe")  # which counts for several teachers too
    if teacher.get("remember") != "half":
        teacher = without(teacher, "remember", "remember_gb")
    teacher = teacher if teacher.get("checkpoint_head") else without(teacher, "checkpoint_head")
    return teacher | {"checkpoint": teacher.get("checkpoint") and (weights_content(run, "teacher") or teacher["checkpoint"])}


def student_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's student; weights of the user's own by their content, and not at all where there are none."""
    student = run["settings"]["student"]
    if not student.get("checkpoint"):
        return without(student, "checkpoint", "checkpoint_head")
    return {**student, "checkpoint": weights_content(run, "student") or student["checkpoint"]}


def weights_content(run: Mapping[str, Any], role: str) -> str | None:
    """The digest of the user's own weights of a network; None where there are none, or an older version ran."""
    known = [weights.get(role) for part in ("checkpoints", "starts") if isinstance(weights := run.get(part), Mapping)]
    return next((digest for digest in known if isinstance(digest, str)), None)


def data_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's data: their settings, without where they lie for those that are known by their name; else their content."""
    content = data_content(run)
    dataset = run["settings"]["dataset"]
    return place_free(dataset) if content is None else {"name": dataset["name"], "content": content}


def data_content(run: Mapping[str, Any]) -> str | None:
    """The digest of a run's data where they are the user's own; None for others, and where an older version ran."""
    dataset, content = run["settings"]["dataset"], run.get("data")
    shipped = str(dataset.get("_target_")).startswith("kdrun.")
    own = not shipped or (any(isinstance(dataset.get(key), str) for key in OWN_FILES) and not known_by_name(dataset))
    return content if isinstance(content, str) and own else None


def known_by_name(dataset: Mapping[str, Any]) -> bool:
    """Whether a data set is the same wherever it lies: one that everybody downloads."""
    return "reader" in dataset


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
    return without(found, "root", "download") if known_by_name(found) else found


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
        schemes = registry.method_card(choices["method"]).schemes
        if schemes and choices["scheme"] != schemes[0]:
            changed.append(choices["scheme"])
        changed += differences(settings["method"], usual("method", choices["method"], choices), settings)
    else:  # a method of the user's own, whose usual settings are not known here
        changed += [choices["scheme"], f"settings {hashlib.sha256(formatted(settings['method']).encode()).hexdigest()[:6]}"]
    if written("scheme", choices["scheme"]):
        changed += differences(settings["scheme"], usual("scheme", choices["scheme"], {}), settings)
    return f"{method} ({', '.join(changed)})" if changed else method


def usual(group: str, name: str, choices: Mapping[str, str]) -> dict[str, Any]:
    """The settings that a choice has by default, with those of the parts that it is made of."""
    own = written(group, name)
    found: dict[str, Any] = {}
    for entry in own.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            found |= usual(group, entry, choices)
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
    return registry.load(group, name) if name in registry.options(group) else {}


def differences(settings: Mapping[str, Any], default: Mapping[str, Any], whole: Mapping[str, Any],
                above: str = "") -> list[str]:
    """KEY=VALUE of each setting that is not as `default` has it; references there are looked up in the whole of settings."""
    found = []
    for key in sorted({*settings, *default}, key=list({**default, **settings}).index):
        own, usual_value = settings.get(key, NO_VALUE), default.get(key, NO_VALUE)
        if isinstance(usual_value, str) and (match := REFERENCE.fullmatch(usual_value)):
            usual_value = looked_up(settings, match[1][1:]) if match[1].startswith(".") else looked_up(whole, match[1])
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
    return value if isinstance(value, str) else formatted(value)
