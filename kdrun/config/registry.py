"""What there is to choose from: the YAML files of each group, and what the code says of itself.

Nothing here imports torch: names and descriptions are read from files, so that listing and completing are instant.
"""

import ast
import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

__all__ = ["MethodCard", "defaults", "load", "method_card", "network", "network_name", "options", "recipe", "shipped",
           "use"]

PACKAGE = Path(__file__).parents[1]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one, where there is one, takes a tenth of the time


def shipped() -> Path:
    """The configs that come with kdrun: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if (inside / "config.yaml").exists() else PACKAGE.parent / "conf"


_folders: list[Path] = [shipped()]


def use(folders: Iterable[Path]) -> None:
    """Look in these folders too, after the shipped one."""
    for folder in folders:
        if folder not in _folders:
            _folders.append(folder)


def folders() -> list[Path]:
    """Where configs are looked for, in this order."""
    return list(_folders)


def options(group: str) -> dict[str, Path]:
    """The choices of a group, with their files, in natural order; experiments may lie in sub-folders."""
    found: dict[str, Path] = {}
    for folder in _folders:
        for path in (folder / group).glob("**/*.yaml" if group == "experiment" else "*.yaml"):
            found.setdefault(path.relative_to(folder / group).with_suffix("").as_posix(), path)
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts resnet8 before resnet20."""
    parts: list[tuple[int, int | str]] = []
    digits = ""
    for character in name + "\0":
        if character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((0, int(digits)))
            digits = ""
        parts.append((1, character))
    return parts


def load(group: str, name: str) -> dict[str, Any]:
    """The settings in one file of a group, as they stand there."""
    return yaml.load(options(group)[name].read_text(), Loader=LOADER) or {}


def network(name: str) -> dict[str, Any]:
    """The settings of a network, those that are made of others among them (`wrn_${.depth}_${.width}`) filled in."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create(load("model", name)), resolve=True)  # type: ignore[return-value]


def recipe(name: str) -> dict[str, Any] | None:
    """The settings of a recipe, with those of the recipes that its defaults list names; None where that cannot be told."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    def settings(one: str) -> dict[str, Any]:
        own: Any = OmegaConf.to_container(OmegaConf.create(options("recipe")[one].read_text()), resolve=True)
        found: dict[str, Any] = {}
        defaults = own.pop("defaults", [])
        for entry in defaults if "_self_" in defaults else [*defaults, "_self_"]:
            found |= own if entry == "_self_" else settings(entry)
        return found

    try:
        return settings(name)
    except (KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError, OmegaConfBaseException):
        return None


def network_name(node: Mapping[str, Any]) -> str:
    """What results call a network: its name, after the library's where it is one of a library: torchvision.resnet18."""
    return f"{node['library']}.{node['name']}" if node.get("library") else str(node["name"])


def defaults() -> dict[str, str]:
    """The groups of the command line, with the choice of each that stands where none is made."""
    entries = yaml.load((shipped() / "config.yaml").read_text(), Loader=LOADER)["defaults"]
    return {name: choice for entry in entries if isinstance(entry, Mapping) for name, choice in entry.items()
            if choice and " " not in name}


@dataclass(frozen=True)
class MethodCard:
    """What a method says of itself.

    Attributes:
        key: as in `method=key`.
        title: the name of its class.
        knowledge: of response, feature and relation; empty where it carries nothing over.
        schemes: under which it runs, its own first.
        teachers: how many of a run's teachers it learns from: none, one or many.
        family: the folder it lies in.
        source: the paper.
        summary: the first sentence of its docstring.
        survey_scheme: the scheme under which the surveys file it, as they print it; empty where none does.
        survey_tables: the tables and sections of the surveys that it serves.
        structural: whether what it transfers is of the structure of the network or of the data, in Zhu's words.
        cautions: by scheme, where it was measured to end below the student alone.
        given_for: for what its weights were given, if that matters, and what becomes of them elsewhere; or empty.
    """

    key: str
    title: str
    knowledge: tuple[str, ...]
    schemes: tuple[str, ...]
    teachers: str
    family: str
    source: str
    summary: str
    survey_scheme: str
    survey_tables: tuple[str, ...]
    structural: bool
    cautions: Mapping[str, str]
    given_for: str


def class_in(module: str, title: str) -> ast.ClassDef | None:
    """The source of a class; None where it does not stand in the file of its module."""
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(spec.origin or "").read_text()) if spec is not None else ast.Module([], [])
    except (ImportError, ValueError, OSError, SyntaxError):
        return None
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == title), None)


@cache
def method_card(key: str) -> MethodCard:
    """Read a method's description from its source, without importing it."""
    settings = load("method", key)
    module, _, title = str(settings.get("_target_", "")).rpartition(".")
    body = class_in(module, title)
    said: dict[str, Any] = {"knowledge": (), "schemes": ("offline", "online", "self"), "teachers": "one",
                            "source": "", "survey_scheme": "", "survey_tables": (), "structural": False, "cautions": {},
                            "scaled": ("weight",), "unit": "classes"}
    for node in body.body if body else []:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id in said and node.value is not None:  # type: ignore[attr-defined]
            said[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    docstring = ast.get_docstring(body) if body else ""
    if body is None:  # defined elsewhere and only named here: the class itself knows
        try:
            kind = getattr(importlib.import_module(module), title)
        except Exception:  # a user's own; why it cannot be imported is told when it is chosen
            kind = None
        said = {name: getattr(kind, name, default) for name, default in said.items()}
        docstring = inspect.getdoc(kind) if kind is not None else ""
    summary = (docstring or "").split("\n\n")[0].replace("\n", " ")
    family = module.split(".")[-2] if "." in module else "own"  # a user's module may lie in no folder
    return MethodCard(key, title, tuple(said["knowledge"]), tuple(said["schemes"]), said["teachers"], family, said["source"],
                      summary, said["survey_scheme"], tuple(said["survey_tables"]), said["structural"], dict(said["cautions"]),
                      given_for(settings, said["scaled"], said["unit"]))


def given_for(settings: Mapping[str, Any], scaled: Iterable[str], unit: str) -> str:
    """What a card says of weights that were given for a number of classes or places; empty where none were."""
    if settings.get("reference") is None:
        return ""
    weights = ", ".join(f"{key}={settings[key]:g}" for key in scaled)
    elsewhere = "choose on the validation split what suits others" if settings["scaling"] == "none" else \
        f"elsewhere scaled ({settings['scaling']})"
    return f"{weights}: given for {settings['reference']} {unit}; {elsewhere}"
