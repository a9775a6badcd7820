"""Which methods find what they need in a task, and whether networks fit them."""

from collections.abc import Mapping

import torch

from kdrun.config import registry
from kdrun.config.instantiation import locate
from kdrun.data.data import Data
from kdrun.models.factory import NetworkSpec
from kdrun.models.fitted import FittedModel
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Need, Task

__all__ = ["alternatives", "check_network"]


def alternatives(key: str, task: Task) -> str:
    """The methods that carry over a kind of knowledge that this one does and run on a task, ready to be appended."""
    found = []
    knowledge = set(registry.method_card(key).knowledge)
    for other in registry.options("method"):
        if other == key or not knowledge & set(registry.method_card(other).knowledge):
            continue
        try:
            kind = locate(registry.load("method", other)["_target_"], "method")
        except (ValueError, KeyError):  # the user's own, and broken
            continue
        if not set(getattr(kind, "needs", ())) - task.gives:
            found.append(other)
    return f"; of its kind ({' or '.join(sorted(knowledge))}) {' or '.join(found)} would do" if found else ""


def check_network(spec: NetworkSpec, data: Data, needs: Mapping[Need, str], *, by_steps: bool) -> str:
    """Build a network, load the user's weights if there are some, and let it answer two samples.

    Args:
        spec: the network.
        data: as it sees them.
        needs: what the method cannot do without, with the class that says so.
        by_steps: whether the method trains it by steps.

    Returns:
        What was done with the user's weights; empty where there are none.

    Raises:
        ValueError: what does not fit.
    """
    network = spec.build(data)
    started = spec.load(network, len(data.classes)) if spec.checkpoint else ""
    with torch.no_grad():
        answer = network.eval()(data.example(2))
    if not isinstance(answer, ModelOutput):
        raise ValueError(f"it answers a {type(answer).__name__}; wanted a kdrun.models.output.ModelOutput")
    if wrong := data.task.misfit(answer, 2):
        raise ValueError(wrong)
    if "maps" in needs and not answer.stages:
        raise ValueError(f"{needs['maps']} needs maps of stages, and it shows none")
    if isinstance(network, FittedModel):
        network.check(len(data.train))
        if by_steps:
            raise ValueError("it is made in one go, and the method trains by steps; choose another student")
    return started
