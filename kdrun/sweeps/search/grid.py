"""Every combination of the values that a command line gives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdrun.config import method_settings
from kdrun.config.hydra_internals import basic_sweeper
from kdrun.config.schema import Settings
from kdrun.sweeps.job import common
from kdrun.sweeps.search.context import SweepContext
from kdrun.sweeps.search.space import parsed
from kdrun.utils.console import plain_console
from kdrun.utils.progress import Progress
from kdrun.utils.wording import counted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

__all__ = ["Grid"]


class Grid:
    """Hydra's own sweeper, and settings that are of one method's jobs alone."""

    extra = None

    def problems(self, settings: Settings) -> list[str]:
        """Nothing can be wrong."""
        return []

    def run(self, context: SweepContext, words: Sequence[str]) -> Any:
        """Run all combinations."""

        class Sweeper(basic_sweeper()):  # type: ignore[misc]
            """Hydra's, which splits what it is given otherwise."""

            def split_arguments(self, overrides: "list[Override]",  # static there
                                max_batch_size: int | None) -> list[list[list[str]]]:
                """The jobs, batch by batch."""
                own = parsed(context.task.own, context.context.config_loader)
                jobs = method_settings.jobs([*overrides, *own], context.method_of)
                shared = [word for word in jobs[0] if word in common(jobs)]
                with_all = f", all with {', '.join(shared)}" if shared and len(jobs) > 1 else ""
                Progress(plain_console(stderr=True)).note(f"{counted(len(jobs), 'job')}{with_all}")
                return [list(batch) for batch in self.split_overrides_to_chunks(jobs, max_batch_size)]

        sweeper = Sweeper(max_batch_size=context.most, params=context.params)
        sweeper.setup(hydra_context=context.context, task_function=context.task, config=context.config)
        sweeper.launcher = context.launcher
        return sweeper.sweep(list(words))
