"""Every way in which a configuration does not fit, found without reading data or training anything."""

import dataclasses
import importlib.util
import inspect
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kdrun.config import registry, targets
from kdrun.config.constraints import FileName, Positive, annotations, closest, misfit
from kdrun.config.dataset import DatasetSettings
from kdrun.config.instantiation import declared, instantiate, locate
from kdrun.config.recipe import Recipe
from kdrun.config.schema import (
    GROUPS,
    SLOTS,
    STUDENT_OWN,
    TEACHER_OWN,
    UNSET,
    MeasureSettings,
    RunSettings,
    Settings,
)
from kdrun.config.speed import SpeedSettings
from kdrun.config.targets import PLACES, Kind
from kdrun.utils.wording import counted, formatted

__all__ = ["problems", "unknown_key"]


def misfits(place: str, node: Any, target: Any, ignored: Collection[str] = (), kind: Kind | None = None) -> list[str]:
    """Compare a group's settings with the signature of what they are for: unknown, missing and misfitting ones.

    Args:
        place: of the group.
        node: its settings.
        target: what they are for.
        ignored: settings that are for something else.
        kind: of the target, if its settings may be built of others.
    """
    if not isinstance(node, Mapping):
        return [] if node is UNSET else [f"{place}: got {formatted(node)}, wanted a group of settings"]
    wanted = {key: parameter for key, parameter in inspect.signature(target).parameters.items() if key != "self"}
    annotated = annotations(target)
    found = []
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in wanted.values())
    for key, value in node.items():
        if kind == "network" and key in NETWORK_GIVEN and key in wanted:
            found.append(f"{place}.{key}: got {formatted(value)}, but that comes from the data; leave it out")
        if key == "_target_" or key in ignored or value is UNSET:
            continue
        if key not in wanted:
            if not takes_all:
                known = dict.fromkeys(name for name in (*ignored, *wanted) if name not in NETWORK_GIVEN)
                found.append(f"unknown key '{key}' in {place}" + (closest(key, known) or has(known)))
            continue
        annotation = annotated.get(key, Any)
        inner = targets.nested(annotation, kind) if kind else None
        names_target = isinstance(value, Mapping) and "_target_" in value
        if inner and (names_target or (inner == "method" and annotation is not Any and value is not None)):
            found += target_misfits(f"{place}.{key}", value, inner, ignored)
        elif reason := misfit(value, annotation) or ("no _target_ here" if names_target and annotation is Any else None):
            found.append(f"{place}.{key}: got {formatted(value)}, wanted {reason}")
    found += [f"{place}.{key} is not set" for key, parameter in wanted.items()
              if key not in node and key not in ignored and parameter.default is parameter.empty
              and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
    return found


def unknown_key(key: str, values: Mapping[str, Any], known: Collection[str] = ()) -> str | None:
    """A line on a dotted key that there is not, with a hint at the nearest; None where there is one.

    Args:
        key: the key.
        values: a whole configuration.
        known: the keys at its top, if not all that stand there are good.
    """
    node: Any = values
    parts = key.split(".")
    for place, part in enumerate(parts):
        above = ".".join(parts[:place])
        if isinstance(node, list) or (isinstance(node, str) and node.startswith("${")):
            return None
        if not isinstance(node, Mapping):
            return f"unknown key '{key}': {above} is not a group of settings"
        names = [name for name in (node if above or not known else known) if name != "_target_"]
        if part not in node or (known and not above and part not in known):
            if above:
                return f"unknown key '{part}' in {above}" + (closest(part, names) or has(names))
            # a setting of a group, given without the group's name
            groups = [] if len(parts) > 1 else [name for name in names if isinstance(node.get(name), Mapping)]
            inside = {own: f"{group}.{own}" for group in groups for own in node[group] if own != "_target_"}
            near = closest(part, [*names, *inside])
            exact = near.partition("'")[2].partition("'")[0]
            return f"unknown key '{part}'" + (near.replace(f"'{exact}'", f"'{inside.get(exact, exact)}'") or has(names))
        node = node[part]
    return None


def has(names: Collection[str]) -> str:
    """What a group has, ready to be appended."""
    return f"; it has {', '.join(names)}" if names else "; it has no settings"


NETWORK_GIVEN = ("classes", "channels", "shape", "vocabulary", "features", "length", "target_length", "per_place", "users",
                 "items", "heatmap_stride", "further_heads", "heat_bias", "latent",
                 "picture")  # what a network is told of the data


def target_misfits(place: str, node: Any, kind: Kind, ignored: Collection[str] = ()) -> list[str]:
    """`misfits` with the signature of the node's own `_target_`, which has to be of a kind."""
    if not isinstance(node, Mapping):
        choice = place.replace(".", "/")  # method.base is chosen by method/base=
        return [] if node is UNSET else [f"{place}: got {formatted(node)}, wanted a choice of its group: {choice}=NAME"]
    if "_target_" not in node:
        return [f"{place}._target_ is not set; give MODULE.NAME of its class"]
    if node["_target_"] is UNSET:
        return []
    try:
        target = locate(node["_target_"], kind)
    except ValueError as error:
        return [f"{place}._target_: {error}"]
    return misfits(place, node, target, ignored, kind)


def problems(settings: Settings) -> list[str]:
    """Everything in a configuration that cannot be, a line each: nothing is read or trained to find out."""
    values = settings.values
    if found := [*choice_problems(settings.choices), *text_problems("", values)]:  # and nothing is made of such
        return found
    found = [line for key in values if (line := unknown_key(key, values, ROOT))]
    own = {key: values[key] for key in ROOT if key in values and key not in (*GROUPS, *CONDUCT)}
    found += [line.removeprefix("settings.") for line in misfits("settings", own, RunSettings)]
    if values.get("outputs") == "":
        found.append("outputs: got '', wanted a folder")
    if isinstance(values.get("measures"), Mapping):
        found += misfits("measures", values["measures"], MeasureSettings)
    if isinstance(values.get("speed"), Mapping):
        found += misfits("speed", values["speed"], SpeedSettings)
    found += misfits("recipe", values.get("recipe"), Recipe) or recipe_clashes("recipe", values.get("recipe"))
    found += dataset_problems("dataset", values.get("dataset"))
    for role, extra in (("teacher", ("name", *TEACHER_OWN)), ("student", ("name", *STUDENT_OWN))):
        node = values.get(role)
        found += target_misfits(role, node, "network", ignored=(*extra, *NETWORK_GIVEN))
        if isinstance(node, Mapping) and (name := node.get("name")) is not UNSET and (reason := misfit(name, FileName)):
            found.append(f"{role}.name: got {formatted(name)}, wanted {reason}")
    teacher = values.get("teacher")
    checkpoint = teacher.get("checkpoint") if isinstance(teacher, Mapping) else None
    found += [line for role in ("teacher", "student") for line in checkpoint_problems(role, values.get(role))]
    found += memory_problems(teacher)
    found += recipe_problems(values, bool(checkpoint))
    found += target_misfits("scheme", values.get("scheme"), "scheme")
    found += method_problems(settings, bool(checkpoint))
    found += [line for group in CONDUCT for line in target_misfits(group, values.get(group), PLACES[group])]
    found += device_problems(values.get("device"))
    return found or [line for group in CONDUCT for line in conduct_problems(group, settings)]


def choice_problems(choices: Mapping[str, Any]) -> list[str]:
    """Where there is no such method, or a choice is none; a recorded run may name what a command line cannot."""
    found = [f"{group}: got {formatted(choices.get(group))}, wanted a choice of its group: {group}=NAME"
             for group in {"method": None, "scheme": None, **choices} if not isinstance(choices.get(group), str)]
    for group in () if found else ("method", *(f"method/{slot}" for slot in SLOTS["method"])):
        known = {**registry.options(group), **registry.options("method")}
        if (choice := choices.get(group)) is not None and choice not in known:
            found.append(f"unknown {group} {formatted(choice)}" + (closest(choice, known) or f"; there is {', '.join(known)}"))
    return [*found, *text_problems("choice of ", choices)]


def text_problems(place: str, node: Any) -> list[str]:
    """Texts at any depth that no file can hold or no table can show, which would come to light when all is trained."""
    if isinstance(node, Mapping):
        return [line for key, value in node.items() for line in text_problems(f"{place}{key}.", value)]
    if isinstance(node, list | tuple):
        return [line for number, value in enumerate(node) for line in text_problems(f"{place[:-1]}[{number}].", value)]
    if not isinstance(node, str) or not (odd := unprintable(node, named=place.endswith("name."))):
        return []
    return [f"{place[:-1]}: got {formatted(node)}, wanted a text without {odd}"]


def unprintable(text: str, named: bool) -> str:
    """What in a text is no character to print; empty for nothing. A path may have a wider space, a name may not."""
    return next((f"the character U+{ord(one):04X}" for one in text
                 if (not one.isprintable() if named else unicodedata.category(one) in ("Cc", "Cs"))), "")


def dataset_problems(place: str, node: Any) -> list[str]:
    """Where a data set, or one that another is made of, does not fit its reader or what every data set has."""
    common = known_keys(DatasetSettings)
    found = target_misfits(place, node, "reader", ignored=common)
    if isinstance(node, Mapping):
        found += misfits(place, {key: value for key, value in node.items() if key in common}, DatasetSettings)
        found += [line for slot in SLOTS["dataset"] if isinstance(node.get(slot), Mapping)
                  for line in dataset_problems(f"{place}.{slot}", node[slot])]
    return found


def method_problems(settings: Settings, checkpoint: bool) -> list[str]:
    """Where a method cannot be, or does not fit its scheme, its base or its teachers."""
    node: Any = settings.values.get("method")
    choice = settings.choices
    found = target_misfits("method", node, "method")
    if found or node is UNSET or node["_target_"] is UNSET:
        return found
    kind: Any = locate(node["_target_"])
    name = f"method={choice.get('method')}"
    if kind.schemes and choice.get("scheme") not in (None, *kind.schemes):
        found.append(f"{name} does not run under scheme={choice['scheme']}; it runs under {', '.join(kind.schemes)}")
    found += teacher_problems(name, declared(node, "teachers"), settings.values, checkpoint)
    found += class_problems(name, getattr(kind, "partial_teachers", False), settings.values, checkpoint)
    parts = {slot: node[slot] for slot in SLOTS["method"] if isinstance(node.get(slot), Mapping)}
    for slot, part in parts.items():
        if part["_target_"] is UNSET:
            continue
        lent: Any = locate(part["_target_"])
        chosen = f"method/{slot}={choice.get(f'method/{slot}')}"
        if targets.is_a(lent, targets.CURRICULUM):
            return [*found, f"{chosen} is a curriculum itself, and has no loss to lend to {name}; take another {slot}"]
        if targets.is_a(kind, targets.CURRICULUM):
            if "offline" not in lent.schemes:
                found.append(f"{chosen} cannot learn from a trained teacher, and {name} gives it one")
        elif choice.get("scheme") not in (None, *lent.schemes):
            found.append(f"{chosen} does not run under scheme={choice['scheme']}; it runs under {', '.join(lent.schemes)}")
    if not any(UNSET in part.values() for part in (node, *parts.values())):
        try:
            instantiate(node, "method")
        except ValueError as error:
            found += [f"{name}: {line}" for line in str(error).splitlines()]
    return found


def teacher_problems(name: str, wanted: str, values: Mapping[str, Any], checkpoint: bool) -> list[str]:
    """Where the teachers given are not what the method learns from."""
    given = values.get("teachers")
    if wanted == "none":
        return [f"{name} learns without a teacher; leave {key} out"
                for key, there in (("teachers", given is not None), ("teacher.checkpoint", checkpoint)) if there]
    teacher, scheme = values.get("teacher"), values.get("scheme")
    if isinstance(teacher, Mapping) and teacher.get("recipe") is not None and not trained_first(scheme):
        return ["teacher.recipe: the chosen scheme has no teacher that is trained first; leave it out, or give scheme=offline"]
    if isinstance(given, list) and (not given or (wanted == "one" and len(given) > 1)):
        few = "one teacher" if wanted == "one" else "at least one"
        return [f"teachers: got {formatted(given)}, but {name} learns from {few}"]
    return []


def class_problems(name: str, partial: bool, values: Mapping[str, Any], checkpoint: bool) -> list[str]:
    """Where the classes that each teacher knows are not what the method learns from."""
    given, teachers, place = values.get("teacher_classes"), values.get("teachers"), "teacher_classes"
    if given is UNSET or not partial:
        return [f"{place}: the teachers of {name} know all classes; leave it out"] if given not in (None, UNSET) else []
    if given is None:
        return [f"{name} learns from teachers that know a part of the classes each; give {place}=2 for two halves, or the "
                f"classes of each by number, as {place}=[[0,1,2],[2,3,4]]"]
    if checkpoint:
        return [f"{place}: a teacher is trained for each part, and teacher.checkpoint is trained already; leave one out"]
    found = []
    if isinstance(teachers, list) and isinstance(given, int | list) and len(teachers) != (
            count := given if isinstance(given, int) else len(given)):
        found.append(f"{place}: got {counted(count, 'part')} for {counted(len(teachers), 'teacher')}; wanted one part for each")
    for part in given if isinstance(given, list) else ():
        if isinstance(part, list) and (len(part) < 2 or len(set(map(str, part))) < len(part)):
            found.append(f"{place}: got the part {formatted(part)}, wanted two different classes at least, each once")
    return found


def checkpoint_problems(role: str, node: Any) -> list[str]:
    """What is wrong with weights of the user's own."""
    if not isinstance(node, Mapping):
        return []
    checkpoint, head = node.get("checkpoint"), node.get("checkpoint_head")
    found = []
    if checkpoint is not None and checkpoint is not UNSET and not Path(str(checkpoint)).is_file():
        path = Path(str(checkpoint)).absolute()
        found.append(f"{role}.checkpoint: {path} is a folder, wanted a file of weights" if path.is_dir() else
                     f"{role}.checkpoint: there is no file {path}")
    if head is not None and head is not UNSET and head != "new":
        found.append(f"{role}.checkpoint_head: got {formatted(head)}, wanted new (a classifier that is trained anew) or null")
    elif head == "new" and not checkpoint:
        found.append(f"{role}.checkpoint_head: there is no {role}.checkpoint whose classifier it could replace")
    return found


def trained_first(scheme: Any) -> bool:
    """Whether a scheme's teacher is trained before the student; taken for granted of a scheme that cannot be found."""
    try:
        return bool(getattr(locate(scheme["_target_"], "scheme"), "trained_teacher", True))
    except (ValueError, TypeError, KeyError):
        return True


def recipe_problems(values: Mapping[str, Any], checkpoint: bool) -> list[str]:
    """What is wrong with the teachers' own recipe."""
    teacher, run = values.get("teacher"), values.get("recipe")
    own = teacher.get("recipe") if isinstance(teacher, Mapping) else None
    if own is None or own is UNSET:
        return []
    known = registry.options("recipe")
    if isinstance(own, str):
        return [f"teacher.recipe: '{own}' is made of more than recipes; give settings, as {{epochs: 100}}" if own in known else
                f"teacher.recipe: unknown recipe '{own}'" + (closest(own, known) or f"; there is {', '.join(known)}")]
    if not isinstance(own, Mapping):
        return [f"teacher.recipe: got {formatted(own)}, wanted the name of a recipe ({', '.join(known)}), or settings "
                "that differ from the run's, as {epochs: 100}"]
    base = run if isinstance(run, Mapping) else {}
    told_of_run = misfits("teacher.recipe", base, Recipe)
    found = [line for line in misfits("teacher.recipe", {**base, **own}, Recipe) if line not in told_of_run]
    found += [] if found or told_of_run else recipe_clashes("teacher.recipe", {**base, **own})
    if checkpoint and teacher.get("checkpoint_head") != "new":  # type: ignore[union-attr]
        found.append("teacher.recipe: the weights of teacher.checkpoint are trained already; leave one of the two out")
    return found


def recipe_clashes(place: str, recipe: Any) -> list[str]:
    """Settings of a recipe that fit each by itself and not together."""
    if not isinstance(recipe, Mapping):
        return []
    size, skipped = recipe.get("accumulate"), recipe.get("skip_bad_batches")
    if size in (1, UNSET) or skipped in (0, UNSET):
        return []
    return [f"{place}.skip_bad_batches: got {skipped}, but {place}.accumulate={size} adds up the gradients of several batches, "
            "out of which a bad one cannot be taken; set one of the two back"]


def memory_problems(teacher: Any) -> list[str]:
    """What is wrong with how a teacher's answers are to be remembered."""
    from kdrun.utils import distributed  # with torch

    if not isinstance(teacher, Mapping):
        return []
    kept, most = (teacher.get(key, TEACHER_OWN[key]) for key in ("remember", "remember_gb"))
    found = []
    if kept is not UNSET and not isinstance(kept, bool) and kept != "half":
        found.append(f"teacher.remember: got {formatted(kept)}, wanted true, false or half (of the precision, on disk)")
    elif kept is not UNSET and kept and distributed.asked():
        found.append(f"teacher.remember: got {formatted(kept)}, but processes that share a run (torchrun) do not remember; "
                     "leave it out")
    if most is not UNSET and (reason := misfit(most, Positive)):
        found.append(f"teacher.remember_gb: got {formatted(most)}, wanted {reason}")
    return found


def device_problems(device: Any) -> list[str]:
    """What is wrong with the device asked for."""
    import torch

    if device == "auto" or not isinstance(device, str):
        return []
    try:
        asked = torch.device(device)
    except RuntimeError:
        asked = None
    if asked is None or asked.type not in ("cpu", "cuda"):
        return [f"device: got {formatted(device)}, wanted auto, cpu or cuda"]
    if asked.type == "cuda" and (asked.index or 0) >= (count := torch.cuda.device_count()):
        return [f"device: got {formatted(device)}, but torch sees " + (f"{count} GPUs here, numbered from 0" if count else
                                                                  "no GPU here; use device=cpu")]
    return []


def conduct_problems(group: str, settings: Settings) -> list[str]:
    """What is wrong with which jobs are to run or where, given that every setting is fit in itself."""
    node: Any = settings.node(group)
    if UNSET in (node, *(node if isinstance(node, Mapping) else {}).values()):
        return []
    kind: Any = locate(node["_target_"])
    if kind.extra is not None and importlib.util.find_spec(kind.extra[1]) is None:
        extra, package = kind.extra
        return [f"{group}: {kind.__name__} needs {package}: pip install 'kdrun[{extra}]'"]
    return instantiate(node, PLACES[group]).problems(settings)


def known_keys(schema: Any) -> list[str]:
    """The settings of a dataclass."""
    return [field.name for field in dataclasses.fields(schema)]


CONDUCT = ("launch", "sweep")  # where the jobs of a sweep run, and which they are
ROOT = (*GROUPS, *CONDUCT, *known_keys(RunSettings))
