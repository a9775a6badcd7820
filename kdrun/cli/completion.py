"""What may come next on the command line, read from files: Hydra's own completion takes longer than a key press should.

The scripts of `shells` ask for it; it knows sub-commands, runs and paths too, and goes on after a comma.
"""

import argparse
import ast
import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdrun.cli import commands
from kdrun.cli.folders import typed_folders
from kdrun.cli.shells import SCRIPTS, protected, words_of
from kdrun.config import registry
from kdrun.config.schema import SLOTS, STUDENT_OWN, TEACHER_OWN

__all__ = ["answer", "candidates"]

OPTIONS = ("--cfg", "--config-dir", "--help", "--multirun", "--version", "-m", "-sc")
OPEN = ("=", ".", "/", ",")  # what a word ends with that is not finished
PATHS = {"outputs": "folder", "root": "folder", "checkpoint": "file", "storage": "file"}  # settings that are paths
TARGETS = {"": "kdrun.config.schema.RunSettings", "measures": "kdrun.config.schema.MeasureSettings",
           "speed": "kdrun.config.speed.SpeedSettings",
           "recipe": "kdrun.config.recipe.Recipe"}
FOLDER = {"teacher": "model", "student": "model"}  # of a group, where it is not its name


def answer(shell: str, action: str) -> str:
    """What a shell's script asks for, which gives the line in the environment; or the script itself.

    Args:
        shell: bash, zsh or fish.
        action: query, install or uninstall.
    """
    if action != "query":
        return SCRIPTS[shell, action]
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    words = words_of(line[:int(point)] if point.isdigit() else line)
    start = next((place for place, word in enumerate(words) if Path(word).name == "kdrun"), 0)
    *before, word = words[start + 1:] or [""]
    registry.use(typed_folders(before)[0])
    return "\n".join(protected(found, shell) for found in candidates([given for given in before if given], word))


def candidates(before: Sequence[str], word: str) -> list[str]:
    """Every word that begins as this one does and makes sense after those; a finished one with a space behind it.

    Args:
        before: the words of the line, without `kdrun`.
        word: what is typed of the next; may be empty.
    """
    found: Iterable[str]
    if before[-1:] in (["--config-dir"], ["-cd"]):
        found = paths(word, folders=True)
    elif before and before[0] in commands.names():
        found = words_of_command(before, word)
    elif word.startswith("-"):
        found = OPTIONS
    elif "=" in word:
        found = values(before, word)
    else:
        found = (*([] if before else commands.names()), *keys(before, word))
    return [one if one[-1:] in OPEN else f"{one} " for one in dict.fromkeys(found) if one.startswith(word)]


def words_of_command(before: Sequence[str], word: str) -> Iterator[str]:
    """The options of a sub-command and what may be given to it, or to its latest option."""
    declared = commands.arguments_of(before[0])
    options = {name: action for action in declared._actions for name in action.option_strings if name.startswith("--")}
    option, equals, typed = word.partition("=")
    if equals and option in options:
        yield from (f"{option}={value}" for value in values_of(options[option], typed))
    elif not word.startswith("-") and (latest := options.get(before[-1])) is not None and latest.nargs != 0:
        yield from values_of(latest, word)
    elif word.startswith("-"):
        yield from sorted(options)
    else:
        known = list(declared.words()) if declared.words else sorted(options)
        yield from known
        if before[0] == "resume":
            yield from (path for path in paths(word, folders=True) if path.rstrip("/") not in known)


def values_of(action: argparse.Action, typed: str) -> Iterator[str]:
    """What an option may be, where that is known: its choices, or paths."""
    if action.choices is not None:
        yield from map(str, action.choices)
    elif action.type is Path or action.metavar in ("DIR", "FILE", "FOLDER"):
        yield from paths(typed, folders=action.metavar in ("DIR", "FOLDER") or action.dest == "outputs")


def paths(typed: str, folders: bool = False) -> Iterator[str]:
    """The files and folders whose path begins so, a slash behind a folder; hidden ones where that is how it begins."""
    above, slash, start = typed.rpartition("/")
    place = Path(above + slash).expanduser() if slash else Path()
    with contextlib.suppress(OSError):
        for path in sorted(place.iterdir()):
            if path.name.startswith(start) and (start or not path.name.startswith(".")) and (path.is_dir() or not folders):
                yield f"{above}{slash}{path.name}" + ("/" if path.is_dir() else "")


def values(before: Sequence[str], word: str) -> Iterator[str]:
    """What a key may be set to, where that is known: the choices of a group, true and false."""
    key, _, typed = word.partition("=")
    given, comma, _ = typed.rpartition(",")
    name = key.lstrip("+~")
    if name in registry.defaults() or name == "experiment":
        choices = list(registry.options(FOLDER.get(name, name)))
    elif (parts := name.split("/"))[-1] in SLOTS.get(group := parts[0], ()):
        choices = list({**registry.options(name), **registry.options(group)})
    else:
        node: Any = tree(before)
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        choices = ["true", "false"] if isinstance(node, bool) else literals(name, before)
        if (kind := PATHS.get(name.rpartition(".")[2])):
            yield from (f"{key}={path}" for path in paths(typed, folders=kind == "folder"))
    taken = given.split(",")
    yield from (f"{key}={given}{comma}{choice}" for choice in choices if choice not in taken)


def literals(key: str, before: Sequence[str]) -> list[str]:
    """The texts that a setting may be, as the `Literal` that it is annotated with says, read from the source."""
    group, _, last = key.rpartition(".")
    if key == "device":
        return ["auto", "cpu", "cuda"]
    target = TARGETS.get(group) or (target_of(group, before) if group in registry.defaults() else None)
    module, _, name = (target or "").rpartition(".")
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return []
    tree_ = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    named = {one.targets[0].id: one.value for one in tree_.body
             if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)}
    body = next((one for one in tree_.body if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name), None)
    for node in ast.walk(body) if body else ():
        told = node.annotation if (isinstance(node, ast.arg) and node.arg == last) or (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == last) else None
        told = named.get(told.id, told) if isinstance(told, ast.Name) else told
        if isinstance(told, ast.Subscript) and isinstance(told.value, ast.Name) and told.value.id == "Literal":
            return [str(one.value) for one in ast.walk(told.slice) if isinstance(one, ast.Constant)]
    return []


def target_of(group: str, before: Sequence[str]) -> str | None:
    """The `_target_` of the choice that the line makes in a group; None where there is none, or several are chosen."""
    choice = registry.defaults()[group]
    for given in before:
        name, equals, value = given.lstrip("+").partition("=")
        choice = value if equals and name == group else choice
    files = registry.options(FOLDER.get(group, group))
    return read(files[choice]).get("_target_") if choice in files else None


def keys(before: Sequence[str], word: str) -> Iterator[str]:
    """The keys of one level of the configuration: settings with `=`, what holds others with a dot, groups with both."""
    prefix = word[:len(word) - len(word.lstrip("+~"))]
    path, dot, _ = word.removeprefix(prefix).rpartition(".")
    node: Any = tree(before)
    for part in path.split(".") if dot else ():
        node = node.get(part) if isinstance(node, Mapping) else None
    if not dot:
        yield from (f"{prefix}{group}=" for group in (*registry.defaults(), "experiment"))
    for name, value in node.items() if isinstance(node, Mapping) else ():
        yield f"{prefix}{path}{dot}{name}" + ("." if isinstance(value, Mapping) else "=")


def tree(before: Sequence[str]) -> dict[str, Any]:
    """The settings that the line so far has, as nested dicts; values as the files give them."""
    found = read(registry.shipped() / "config.yaml")
    del found["defaults"], found["hydra"]
    chosen = registry.defaults()
    for word in before:
        name, _, choice = word.lstrip("+").partition("=")
        if name in chosen:
            chosen[name] = choice
    for name, choice in chosen.items():
        found[name] = {key: value for one in choice.split(",") for key, value in settings(FOLDER.get(name, name), one).items()}
    found |= {role: {**own, **found[role]} for role, own in (("teacher", TEACHER_OWN), ("student", STUDENT_OWN))}
    return found


def settings(group: str, choice: str) -> dict[str, Any]:
    """The settings of a choice, after those of the choices that it begins from; nothing where there is no such choice."""
    if choice not in (files := registry.options(group)):
        outer, _, slot = group.rpartition("/")
        return settings(outer, choice) if slot in SLOTS.get(outer, ()) else {}
    own = read(files[choice])
    found: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            found |= settings(group, entry)
        elif isinstance(entry, Mapping):
            found |= {slot: settings(f"{group}/{slot}", base) for slot, base in entry.items() if slot in SLOTS.get(group, ())}
    return {name: value for name, value in {**found, **own}.items() if not name.startswith("_")}


def read(path: Path) -> dict[str, Any]:
    """A file of settings; nothing where it cannot be read, for a completion has nobody to complain to."""
    try:
        found = yaml.load(path.read_text(), Loader=registry.LOADER)
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
