"""Sweeps over a Ray cluster."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.config.schema import Settings
from kdrun.config.speed import cores
from kdrun.sweeps.launchers.base import Job, Sweep
from kdrun.utils import signals
from kdrun.utils.wording import counted

__all__ = ["Ray"]

GIGABYTE = 1 << 30
SAVING = 60.0  # seconds that jobs have to save where they are when the sweep is interrupted


class Ray:
    """The jobs as tasks of Ray, which places them where the cores, GPUs and memory that each asks for are free.

    Args:
        address: of a running cluster, as `ray.init` takes it; None for one of this machine alone, for this sweep.
        cores: of a job: at least its `threads`.
        gpus: of a job; 0.5 lets two share one.
        memory_gb: of a job, for placing it; None for not looking at memory.
    """

    extra: ClassVar[tuple[str, str] | None] = ("ray", "ray")
    together: ClassVar[bool] = True

    def __init__(self, *, address: str | None, cores: AtLeastOne, gpus: NonNegative, memory_gb: Positive | None) -> None:
        self.address, self.cores, self.gpus, self.memory_gb = address, cores, gpus, memory_gb

    def problems(self, settings: Settings) -> list[str]:
        """More threads than a job has cores, or more cores than this machine."""
        if (threads := settings.run.threads) is not None and threads > self.cores:
            return [f"threads: got {threads}, but a job has launch.cores={self.cores}"]
        if self.address is None and self.cores > cores():
            return [f"launch.cores: got {self.cores}, but there are {cores()} cores; wanted at most {cores()}"]
        return []

    def run(self, sweep: Sweep, jobs: Sequence[Job]) -> dict[int, float | None]:
        """Run the jobs; one whose process dies is recorded as failed."""
        import ray
        from ray.exceptions import RayError

        if not ray.is_initialized():  # a search launches again and again
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's default to be, which warns until it is
            own: dict[str, Any] = {"address": self.address} if self.address else {
                "address": "local", "num_cpus": cores(), "include_dashboard": False}
            ray.init(**own, logging_level=logging.WARNING)
            sweep.task.end.callback(ray.shutdown)
        needs: dict[str, Any] = {"num_cpus": self.cores, "num_gpus": self.gpus}
        if self.memory_gb is not None:
            needs["memory"] = int(self.memory_gb * GIGABYTE)
        task = ray.remote(**needs, max_retries=0)(Sweep.elsewhere)  # a job that ran out of memory would do so again
        kept = ray.put(sweep)
        waiting = {task.remote(kept, job): job for job in jobs}
        scores: dict[int, float | None] = {}
        try:
            while waiting:
                with signals.postponed():  # what is raised inside Ray's own code ends it
                    ended, _ = ray.wait(list(waiting), timeout=1)
                for one in ended:
                    job = waiting.pop(one)
                    try:
                        scores[job.number] = ray.get(one)
                    except RayError as error:
                        sweep.bury(job, f"killed before it was done ({type(error).__name__}: {str(error).splitlines()[0]})")
                        scores[job.number] = None
                    print(f"{len(scores)} of {counted(len(jobs), 'job')} done", file=sys.stderr)
        except BaseException:
            for one in waiting:
                ray.cancel(one)
            ray.wait(list(waiting), num_returns=len(waiting), timeout=SAVING)
            raise
        return scores
