"""Every combination of the values that a command line gives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdrun.console import plain_console
from kdrun.search.desk import Desk
from kdrun.terminal import Screen
from kdrun.wording import counted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

__all__ = ["Grid"]


class Grid:
    """Hydra's own sweeper, and settings that are of one method's jobs alone."""

    extra = None

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """Nothing can be wrong."""
        return []

    def run(self, desk: Desk, words: Sequence[str]) -> Any:
        """Run all combinations."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        from kdrun import method_settings
        from kdrun.search.space import parsed
        from kdrun.sweep import common

        class Sweeper(BasicSweeper):
            """Hydra's, which splits what it is given otherwise."""

            def split_arguments(self, overrides: "list[Override]",  # type: ignore[override]  # static there
                                max_batch_size: int | None) -> list[list[list[str]]]:
                """The jobs, batch by batch."""
                own = parsed(desk.task.own, desk.context.config_loader)
                jobs = method_settings.jobs([*overrides, *own], desk.method_of)
                shared = [word for word in jobs[0] if word in common(jobs)]
                with_all = f", all with {', '.join(shared)}" if shared and len(jobs) > 1 else ""
                Screen(plain_console(stderr=True)).note(f"{counted(len(jobs), 'job')}{with_all}")
                return [list(batch) for batch in self.split_overrides_to_chunks(jobs, max_batch_size)]

        sweeper = Sweeper(max_batch_size=desk.most, params=desk.params)
        sweeper.setup(hydra_context=desk.context, task_function=desk.task, config=desk.config)
        sweeper.launcher = desk.launcher
        return sweeper.sweep(list(words))
