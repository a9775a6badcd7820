"""The networks that a configuration names, and what its data set asks of them."""

from dataclasses import replace
from typing import Any

from kdrun.config import registry
from kdrun.config.instantiation import declared
from kdrun.config.schema import ConfigError, Settings
from kdrun.data.class_parts import class_parts
from kdrun.data.data import Data
from kdrun.models.factory import NetworkSpec
from kdrun.models.library import statistics_of

__all__ = ["dataset_node", "teacher_specs"]


def dataset_node(settings: Settings) -> dict[str, Any]:
    """The settings of the data set; where mean or std name a role, the numbers that its pretrained network was trained with.

    Raises:
        ConfigError: that network tells none.
    """
    node = dict(settings.node("dataset"))
    for name in ("mean", "std"):
        if isinstance(role := node.get(name), str):
            try:
                node[name] = statistics_of(settings.values[role])[name]
            except ValueError as error:
                raise ConfigError([f"dataset.{name}: got {role}, but of the {role}: {error}"]) from error
    return node


def teacher_specs(settings: Settings, data: Data) -> list[NetworkSpec]:
    """The teachers: those named by `teachers`, or the one of `teacher`, and the classes that each knows.

    None where the method learns from none.

    Raises:
        ConfigError: these data have no such classes.
    """
    if declared(settings.node("method"), "teachers") == "none":
        return []
    named, wanted = settings.run.teachers, settings.run.teacher_classes
    specs = [NetworkSpec.read(settings.teacher.node)] if named is None else \
        [NetworkSpec.read(registry.network(name)) for name in named]
    if wanted is None or not data.task.sample_labels:  # the rehearsal tells what such data lack
        return specs
    if data.task.key != "classification":
        raise ConfigError([f"teacher_classes: teachers of some classes are measured on the test samples of these, and "
                           f"{data.task.key} tests other classes"])
    try:
        parts = class_parts(wanted, len(data.classes))
    except ValueError as error:
        raise ConfigError([f"teacher_classes: {error}"]) from error
    each = specs * len(parts) if named is None else specs
    return [replace(spec, classes=part) for spec, part in zip(each, parts, strict=True)]
