"""Every combination of the values that a command line gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdrun.search.desk import Desk

__all__ = ["Grid"]


class Grid:
    """Hydra's own sweeper."""

    extra = None

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Nothing can be wrong."""
        return []

    def run(self, desk: Desk, words: Sequence[str]) -> Any:
        """Run all combinations."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        sweeper = BasicSweeper(max_batch_size=desk.most, params=desk.params)
        sweeper.setup(hydra_context=desk.context, task_function=desk.task, config=desk.config)
        sweeper.launcher = desk.launcher
        return sweeper.sweep(list(words))
