"""What may come next on the command line, read from files: Hydra's own completion takes longer than a key press should.

Hydra's scripts (`kdrun -sc install=bash`) ask for it; it knows our sub-commands too, and goes on after a comma.
"""

import ast
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdrun import catalogue, commands
from kdrun.cli import typed_folders
from kdrun.config import SLOTS, STUDENT_OWN, TEACHER_OWN

__all__ = ["answer", "candidates"]

OPTIONS = ("--cfg", "--config-dir", "--help", "--multirun", "--version", "-m", "-sc")
FOLDER = {"teacher": "model", "student": "model"}  # of a group, where it is not its name


def answer(shell: str) -> str:
    """What a shell's script asks for, which gives the line in the environment; words in the form that it reads."""
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    words = (line[:int(point)] if point.isdigit() else line).split(" ")
    start = next((place for place, word in enumerate(words) if Path(word).name == "kdrun"), 0)
    *before, word = words[start + 1:] or [""]
    catalogue.use(typed_folders(before)[0])
    return ("\n" if shell == "fish" else " ").join(candidates([given for given in before if given], word))


def candidates(before: Sequence[str], word: str) -> list[str]:
    """Every word that begins as this one does and makes sense after those.

    Args:
        before: the words of the line, without `kdrun`.
        word: what is typed of the next; may be empty.
    """
    found: Iterable[str]
    if before and before[0] in commands.names():
        found = options_of_command(before[0], before[-1], word)
    elif word.startswith("-"):
        found = OPTIONS
    elif "=" in word:
        found = values(before, word)
    else:
        found = (*([] if before else commands.names()), *keys(before, word))
    return [candidate for candidate in found if candidate.startswith(word)]


def options_of_command(name: str, latest: str, word: str) -> Iterator[str]:
    """The options of a sub-command, or what the latest of them may be; read from its source, without importing it."""
    source = (Path(commands.__file__).parent / f"{name}.py").read_text()
    known: dict[str, list[str]] = {"--help": []}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            names = [str(one.value) for one in node.args if isinstance(one, ast.Constant) and str(one.value).startswith("--")]
            told = {keyword.arg: keyword.value for keyword in node.keywords}
            try:
                choices = [str(choice) for choice in ast.literal_eval(told["choices"])]
            except (KeyError, ValueError):  # there are none, or they are computed
                choices = []
            known |= dict.fromkeys(names, choices)
    option, equals, _ = word.partition("=")
    if equals and option in known:
        yield from (f"{option}={choice}" for choice in known[option])
    elif known.get(latest) and not word.startswith("-"):
        yield from known[latest]
    else:
        yield from sorted(known)


def values(before: Sequence[str], word: str) -> Iterator[str]:
    """What a key may be set to, where that is known: the choices of a group, true and false."""
    key, _, typed = word.partition("=")
    given, comma, _ = typed.rpartition(",")
    name = key.lstrip("+~")
    if name in catalogue.defaults() or name == "experiment":
        choices = list(catalogue.options(FOLDER.get(name, name)))
    elif (parts := name.split("/"))[-1] in SLOTS.get(group := parts[0], ()):
        choices = list({**catalogue.options(name), **catalogue.options(group)})
    else:
        node: Any = tree(before)
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        choices = ["true", "false"] if isinstance(node, bool) else []
    taken = given.split(",")
    yield from (f"{key}={given}{comma}{choice}" for choice in choices if choice not in taken)


def keys(before: Sequence[str], word: str) -> Iterator[str]:
    """The keys of one level of the configuration: settings with `=`, what holds others with a dot, groups with both."""
    prefix = word[:len(word) - len(word.lstrip("+~"))]
    path, dot, _ = word.removeprefix(prefix).rpartition(".")
    node: Any = tree(before)
    for part in path.split(".") if dot else ():
        node = node.get(part) if isinstance(node, Mapping) else None
    if not dot:
        yield from (f"{prefix}{group}=" for group in (*catalogue.defaults(), "experiment"))
    for name, value in node.items() if isinstance(node, Mapping) else ():
        yield f"{prefix}{path}{dot}{name}" + ("." if isinstance(value, Mapping) else "=")


def tree(before: Sequence[str]) -> dict[str, Any]:
    """The settings that the line so far has, as nested dicts; values as the files give them."""
    found = read(catalogue.shipped() / "config.yaml")
    del found["defaults"], found["hydra"]
    chosen = catalogue.defaults()
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
    if choice not in (files := catalogue.options(group)):
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
        found = yaml.load(path.read_text(), Loader=catalogue.LOADER)
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
