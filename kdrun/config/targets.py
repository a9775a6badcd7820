"""What the `_target_` of each place in a configuration may be: whatever is nothing of the kind is never called."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, Final, Literal, get_args, get_type_hints

import yaml

from kdrun.config import registry

__all__ = ["BASES", "CURRICULUM", "PLACES", "Kind", "check", "is_a", "known_targets", "nested", "strangers", "targets"]

Kind = Literal["reader", "network", "method", "scheme", "launcher", "search"]

PLACES: Mapping[str, Kind] = {"dataset": "reader", "teacher": "network", "student": "network", "method": "method",
                              "scheme": "scheme", "launch": "launcher", "sweep": "search"}
"""What is built from each group of the configuration."""

BASES: Final[Mapping[str, str]] = {"reader": "kdrun.data.samples.Source", "network": "torch.nn.modules.module.Module",
                                   "method": "kdrun.methods.base.Method", "scheme": "kdrun.methods.base.Scheme"}
"""The class that each kind is of, or that its functions return: by name, for the configuration imports none of them."""

CURRICULUM: Final = "kdrun.methods.shapes.Curriculum"

TITLES: Mapping[Kind, str] = {
    "reader": "not a function that returns a kdrun.data.samples.Source",
    "network": "neither a torch.nn.Module nor a function that returns one",
    "method": "not a kdrun.methods.base.Method", "scheme": "not a kdrun.methods.base.Scheme",
    "launcher": "not a launcher of jobs (kdrun.sweeps.launchers.base.Launcher)",
    "search": "not a search (one of kdrun.sweeps.search)"}


def check(target: Any, name: str, kind: Kind) -> None:
    """Refuse a target that is not of a kind.

    Args:
        target: what a `_target_` names.
        name: how.
        kind: what it has to be.

    Raises:
        ValueError: it is something else.
    """
    if not fits(target, kind):
        hint = ("; say so behind its arguments: -> " + {"reader": "Source", "network": "nn.Module"}[kind]
                if kind in ("reader", "network") and isinstance(target, FunctionType) else "")
        raise ValueError(f"{name} is {TITLES[kind]}{hint}")


def fits(target: Any, kind: Kind) -> bool:
    """Whether a target is of a kind."""
    if kind in ("launcher", "search"):
        needed = ("extra", "run", "problems", *(("together",) if kind == "launcher" else ()))
        return isinstance(target, type) and all(hasattr(target, name) for name in needed)
    if kind == "reader":
        return makes(target, BASES[kind])
    return is_a(target, BASES[kind]) or (kind == "network" and makes(target, BASES[kind]))


def is_a(target: Any, base: str) -> bool:
    """Whether a target is this class or derived from it.

    Args:
        target: anything.
        base: the module and the name of a class.
    """
    return isinstance(target, type) and any(f"{one.__module__}.{one.__qualname__}" == base for one in target.__mro__)


def makes(target: Any, base: str) -> bool:
    """Whether a target is a function that says that it returns this; of the user's own modules it need not say so."""
    function = inspect.unwrap(target) if callable(target) else target  # a decorated one, as by functools.cache
    if not isinstance(function, FunctionType):
        return False
    try:
        return is_a(get_type_hints(function).get("return"), base) or is_own(function)
    except (NameError, TypeError, AttributeError):  # an annotation that cannot be read
        return is_own(function)


def is_own(function: Callable[..., Any]) -> bool:
    """Whether a function stands in a file of the current folder, or of the user's config folders."""
    source = inspect.getsourcefile(function)
    shipped = registry.shipped()
    folders = [Path.cwd(), *(folder for folder in registry.folders() if folder != shipped)]
    return source is not None and any(folder.resolve() in Path(source).resolve().parents for folder in folders)


def nested(annotation: Any, outer: Kind) -> Kind | None:
    """What a setting of an argument may build where it names a `_target_` of its own; None where it may build nothing.

    Args:
        annotation: of the argument; Any where there is none.
        outer: what the argument is of.
    """
    if annotation is Any:
        return outer if outer in ("network", "method") else None
    kinds: tuple[Kind, ...] = ("method", "network")
    return next((kind for kind in kinds if any(is_a(one, BASES[kind]) for one in (annotation, *get_args(annotation)))), None)


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in settings of any depth."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from targets(value)
    elif isinstance(node, list | tuple):
        for entry in node:
            yield from targets(entry)


def known_targets() -> frozenset[str]:
    """Every `_target_` that the configs name which ship with kdrun, or lie in the folders that the user gave."""
    return frozenset(target for folder in registry.folders() for path in sorted(folder.rglob("*.yaml"))
                     for target in targets(yaml.load(path.read_text(), Loader=registry.LOADER)))


def strangers(values: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """A line for each `_target_` of settings out of a file that is not known: it may be any code."""
    return [f"its settings name {target}, which no config here does and which may be any code; add the configs that do by "
            "--config-dir DIR or, if the folder is your own, --trust" for target in sorted(set(targets(values)) - set(known))]
