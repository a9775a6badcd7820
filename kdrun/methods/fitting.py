"""Which methods find in a task what they need."""

from kdrun.config import registry
from kdrun.config.instantiation import locate
from kdrun.tasks.base import Task

__all__ = ["alternatives"]


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
