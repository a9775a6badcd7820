"""What a configuration names by `_target_`: found, checked and built."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from kdrun.config import targets
from kdrun.config.constraints import annotations
from kdrun.config.schema import SLOTS, UNSET
from kdrun.config.targets import Kind
from kdrun.utils.wording import formatted

__all__ = ["declared", "instantiate", "locate"]


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
        raise ValueError(f"got {formatted(target)}, wanted MODULE.NAME")
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


def declared(node: Mapping[str, Any], what: Literal["teachers", "knowledge"]) -> str:
    """What a method says of itself; for one that is made of others, what those say.

    As many teachers as suit all of them, and the knowledge of each: "feature+response".
    """
    kind: Any = locate(node["_target_"])
    parts = [declared(node[slot], what) for slot in SLOTS["method"]
             if isinstance(node.get(slot), Mapping) and node[slot]["_target_"] is not UNSET]
    if what == "knowledge":
        return "+".join(sorted({name for part in parts for name in part.split("+")} - {"none"} or kind.knowledge)) or "none"
    if not parts or targets.is_a(kind, targets.CURRICULUM):  # which gives its base one after the other
        return kind.teachers
    return next(count for count in ("one", "many", "none") if count in parts)
