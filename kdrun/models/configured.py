"""The networks that a configuration names, and what its data set asks of them."""

from typing import Any

from kdrun.config import registry
from kdrun.config.instantiation import declared
from kdrun.config.schema import ConfigError, Settings
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


def teacher_specs(settings: Settings) -> list[NetworkSpec]:
    """The teachers: those named by `teachers`, or the one of `teacher`; none where the method learns from none."""
    if declared(settings.node("method"), "teachers") == "none":
        return []
    if settings.run.teachers is None:
        return [NetworkSpec.read(settings.teacher.node)]
    return [NetworkSpec.read(registry.network(name)) for name in settings.run.teachers]
