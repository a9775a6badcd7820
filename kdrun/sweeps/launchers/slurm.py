"""Sweeps over a Slurm cluster, as one job array."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kdrun.config.constraints import AtLeastOne, Count, Positive
from kdrun.config.schema import ConfigError, Settings
from kdrun.sweeps.launchers.base import Job, Sweep
from kdrun.utils.wording import counted

if TYPE_CHECKING:
    import submitit

__all__ = ["Slurm"]

LOOK = 30.0  # seconds between two questions to Slurm; a job's result is looked for far more often


class Slurm:
    """The jobs as a Slurm job array, each with its own cores, memory, time and GPUs.

    A job near the end of its time is sent in again and goes on from its checkpoint.

    Args:
        cluster: slurm, or local: processes of this machine, all at once, to try out what will be sent.
        partition: where to; None for the cluster's default.
        minutes: that a job may take.
        memory_gb: that a job may take.
        cores: of a job: at least its `threads`.
        gpus: of a job.
        at_once: how many jobs run at the same time.
        renewals: how often a job may go on that has run out of its time.
        options: further ones of sbatch: {account: x, qos: y}.
    """

    extra: ClassVar[tuple[str, str] | None] = ("slurm", "submitit")
    together: ClassVar[bool] = True

    def __init__(self, *, cluster: Literal["slurm", "local"], partition: str | None, minutes: AtLeastOne, memory_gb: Positive,
                 cores: AtLeastOne, gpus: Count, at_once: AtLeastOne, renewals: Count,
                 options: dict[str, Any]) -> None:
        self.cluster, self.partition, self.minutes, self.memory_gb = cluster, partition, minutes, memory_gb
        self.cores, self.gpus, self.at_once, self.renewals, self.options = cores, gpus, at_once, renewals, options

    def problems(self, settings: Settings) -> list[str]:
        """More threads than cores; no Slurm on this machine."""
        found = []
        if (threads := settings.run.threads) is not None and threads > self.cores:
            found.append(f"threads: got {threads}, but a job has launch.cores={self.cores}")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            found.append("launch=slurm: there is no srun here; start it on a machine of the cluster, or try it out with "
                         "launch.cluster=local")
        return found

    def run(self, sweep: Sweep, jobs: Sequence[Job]) -> dict[int, float | None]:
        """Send the jobs in and wait for them all; one that the system kills is recorded as failed.

        Raises:
            ConfigError: Slurm does not take them.
        """
        from submitit.core.utils import FailedJobError

        executor = self.executor(sweep.folder / "slurm")
        try:
            sent = executor.map_array(Remote(), [sweep] * len(jobs), jobs)
        except FailedJobError as error:  # a partition that there is not, more than any node has, ...
            raise ConfigError([f"launch=slurm: {line}" for line in str(error).splitlines() if line]) from error
        waiting = dict(zip(jobs, sent, strict=True))
        print(f"{counted(len(jobs), 'job')} sent to {self.cluster}; each writes what it says in {sweep.folder / 'slurm'}",
              file=sys.stderr)
        scores: dict[int, float | None] = {}
        ended = Ended(sent[0].job_id.partition("_")[0])
        try:
            while waiting:
                gone = ended.look(waiting) if self.cluster == "slurm" else {
                    job: "" for job, one in waiting.items() if one.done()}
                for job in [job for job, one in waiting.items() if job in gone or one.paths.result_pickle.exists()]:
                    scores[job.number] = settle(sweep, job, waiting.pop(job), gone.get(job, ""))
                    print(f"{len(scores)} of {counted(len(jobs), 'job')} done", file=sys.stderr)
                time.sleep(0.5 if waiting else 0)
        except BaseException:
            for one in waiting.values():
                one.cancel(check=False)
            raise
        return scores

    def executor(self, folder: Path) -> "submitit.AutoExecutor":
        """What sends jobs in."""
        import submitit

        executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=self.renewals)
        executor.update_parameters(
            name="kdrun", timeout_min=self.minutes, mem_gb=self.memory_gb, cpus_per_task=self.cores, gpus_per_node=self.gpus,
            slurm_partition=self.partition, slurm_array_parallelism=self.at_once, slurm_additional_parameters=self.options)
        return executor


class Remote:
    """What a job of the cluster runs."""

    def __call__(self, sweep: Sweep, job: Job) -> float | None:
        """Do a job of a sweep."""
        return sweep.elsewhere(job)

    def checkpoint(self, *arguments: Any) -> "submitit.helpers.DelayedSubmission":
        """What to send in when the time is nearly over: the same, which goes on from its checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *arguments)


def settle(sweep: Sweep, job: Job, sent: "submitit.Job[float | None]", state: str) -> float | None:
    """The score of a job that has ended; one that left none is recorded as failed."""
    if sent.paths.result_pickle.exists():
        return sent.result()
    sent.cancel(check=False)  # whatever there still may be of it
    told = sent.stderr() or ""  # srun's own words, for the state of a job out of memory may be a mere FAILED
    memory = state == "OUT_OF_MEMORY" or "memory limit" in told or "oom" in told.lower()
    why = "memory ran out, give more by launch.memory_gb" if memory else state or "it left no result"
    sweep.bury(job, f"killed before it was done: {why}; see {sent.paths.stderr}")
    return None


class Ended:
    """Which jobs of an array have ended without a result, as Slurm tells when asked from time to time.

    `squeue` is asked, for it knows also where a cluster keeps no accounts. A job is given up when it is found ended twice,
    since its result may take a while to be seen on a shared file system.

    Args:
        number: of the array.
    """

    OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")

    def __init__(self, number: str) -> None:
        self.number, self.asked = number, time.monotonic()
        self.suspects: dict[Job, str] = {}

    def look(self, waiting: Mapping[Job, "submitit.Job[float | None]"]) -> dict[Job, str]:
        """Those of the waiting jobs that are over, with their state; none where it is not yet time to ask again."""
        if time.monotonic() - self.asked < LOOK:
            return {}
        self.asked = time.monotonic()
        told = subprocess.run(["squeue", "--noheader", "--array", "--states=all", "--format=%F_%K %T", "--jobs", self.number],
                              capture_output=True, text=True, check=False)
        if told.returncode and "Invalid job id" not in told.stderr:
            return {}  # Slurm does not answer at the moment
        states = dict(line.replace("_N/A", "").split(maxsplit=1) for line in told.stdout.splitlines())  # N/A: an array of one
        before = self.suspects
        self.suspects = {job: state for job, one in waiting.items()
                         if (state := states.get(one.job_id, "unknown to Slurm")) in (*self.OVER, "unknown to Slurm")}
        return {job: state for job, state in self.suspects.items() if job in before}
