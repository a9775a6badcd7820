"""What every launcher shares: a job, all that is needed to run one in another process, and what is kept of a killed one."""

import contextlib
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig

from kdrun.config.hydra_internals import basic_launcher
from kdrun.config.registration import register
from kdrun.config.schema import Settings
from kdrun.sweeps.job import record, work
from kdrun.utils import signals

__all__ = ["Job", "Launcher", "Sweep", "Task", "death", "spread"]


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: its place in the sweep, from 0.
        words: its settings, as Hydra's sweeper gives them.
    """

    number: int
    words: tuple[str, ...]


class Launcher(Protocol):
    """Runs the jobs of a sweep somewhere: what `launch` names. Its settings are the arguments of its class.

    Attributes:
        extra: the extra of kdrun that brings what it needs, and the package that it needs; None for nothing.
        together: whether it runs several jobs at once, so that each has to say who speaks.
    """

    extra: ClassVar[tuple[str, str] | None]
    together: ClassVar[bool]

    def run(self, sweep: "Sweep", jobs: Sequence[Job]) -> Mapping[int, float | None]:
        """Run the jobs and return their scores by their numbers: None for one that failed, or died without the others."""

    def problems(self, settings: Settings) -> list[str]:
        """What cannot be, given all settings: a line each."""


@dataclass
class Task:
    """What Hydra calls for each job. Where it is unpickled, that process can compose and run jobs as this one can.

    Attributes:
        folders: the user's config folders.
        own: the words of a sweep that are settings of one method alone, which Hydra knows nothing of.
        status: the exit status of the last job run in this process.
        end: what is to be done when all jobs are done.
        reported: whether what came of them has been told already.
    """

    folders: Collection[Path]
    own: Sequence[str] = ()
    status: int = 0
    end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    reported: bool = False

    def __call__(self, cfg: DictConfig) -> float | None:
        """One run; a search's objective is the validation score."""
        self.status, score = work(cfg)
        return score

    def __getstate__(self) -> dict[str, Any]:
        return {"folders": self.folders, "cwd": os.getcwd(), "path": sys.path}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["folders"])  # type: ignore[misc]
        os.chdir(state["cwd"])
        sys.path += [folder for folder in state["path"] if folder not in sys.path]
        Plugins.instance()  # makes known the configs of all of them
        register(self.folders)


@dataclass
class Sweep:
    """All that Hydra knows of a sweep: enough to compose and run any of its jobs, here or where it is unpickled.

    Hydra's own launchers pickle its singletons too; those hold functions, which plain pickling cannot, and all that a job
    needs of them `Task` and the plugins make anew.
    """

    context: HydraContext
    task: Any
    config: DictConfig

    @property
    def folder(self) -> Path:
        """Where it keeps what came of its jobs."""
        return Path(self.config.hydra.sweep.dir)

    def execute(self, job: Job) -> float | None:
        """Run a job in this process, and return its score."""
        launcher = basic_launcher()()
        launcher.setup(hydra_context=self.context, task_function=self.task, config=self.config)
        return launcher.launch([job.words], job.number)[0].return_value

    def elsewhere(self, job: Job) -> float | None:
        """Run a job on a machine of a cluster, where it may be told to stop; it is on record then."""
        try:
            with signals.heeded():
                return self.execute(job)
        except signals.Interrupted:
            return None

    def bury(self, job: Job, reason: str, status: int = 1) -> None:
        """Keep that a job died, since it could not do so itself."""
        cfg = self.context.config_loader.load_sweep_config(self.config, list(job.words))
        record(self.folder, job.number, status, reason, Path(cfg.hydra.sweep.subdir), None, list(job.words))


def death(exit_code: int | None) -> str:
    """Why a process ended, as far as its exit code tells."""
    if exit_code is not None and exit_code > 128:  # what a worker that was interrupted ends with
        return f"stopped by {signal.Signals(exit_code - 128).name}, which this sweep did not send; the same command goes on"
    if exit_code is None or exit_code >= 0:
        return f"its process ended with status {exit_code} before the job was done"
    name = signal.Signals(-exit_code).name
    return f"killed by {name}" + (", most likely because memory ran out" if name == "SIGKILL" else "")


def spread(jobs: Sequence[Job]) -> list[Job]:
    """The jobs in an order in which neighbours seldom wait for one teacher: those of one seed, network, ... far apart.

    Jobs that differ in their method or scheme alone share their teacher and baseline; one of each such group comes first,
    then a second one of each, ...
    """
    seen: dict[tuple[str, ...], int] = {}
    rounds = {}
    for job in jobs:
        group = tuple(word for word in job.words if not word.startswith(("method", "scheme")))
        rounds[job.number] = seen[group] = seen.get(group, -1) + 1
    return sorted(jobs, key=lambda job: (rounds[job.number], job.number))
