"""Sweeps on this machine: long-lived processes, each doing one job after the other."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar

from kdrun.config.constraints import AtLeastOne
from kdrun.config.schema import Settings
from kdrun.config.speed import cores
from kdrun.sweeps.launchers.base import Job, Sweep, death, spread
from kdrun.utils import signals
from kdrun.utils.wording import counted

__all__ = ["Local", "Parallel", "Slot", "slots"]


@dataclass(frozen=True)
class Slot:
    """A share of the machine: what one worker may use.

    Attributes:
        threads: of the CPU.
        gpu: the one to use, as CUDA_VISIBLE_DEVICES names it; None for what the settings say.
    """

    threads: int
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What has to be in a worker's environment before anything is imported there."""
        # OpenMP, MKL and OpenBLAS read theirs once, when loaded; `device` stays as it is, since a run is named by it
        own = {f"{library}_NUM_THREADS": str(self.threads) for library in ("OMP", "MKL", "OPENBLAS")}
        return own | ({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu is not None else {})


def slots(cores: int, gpus: Sequence[str], count: int, jobs: int | None, threads: int, share: int) -> list[Slot]:
    """Share a machine out between jobs, and never more than there is.

    Args:
        cores: of the CPU.
        gpus: those to be used; none where the jobs compute on the CPU.
        count: how many jobs there are in all.
        jobs: how many at once; None for as many as fit.
        threads: of each job. Cores that this leaves idle stay so: a run's numbers depend on its threads.
        share: how many jobs a GPU takes at once.

    Raises:
        ValueError: more is asked for than there is.
    """
    most = len(gpus) * share if gpus else cores // threads
    if jobs is not None and jobs > most:
        there = f"{counted(len(gpus), 'GPU')} for {counted(share, 'job')} each" if gpus else f"there are {cores} cores" + (
            f" for jobs of {threads} threads" if threads > 1 else "")
        raise ValueError(f"launch.jobs: got {jobs}, but {there}; wanted at most {most}"
                         + (" or a larger launch.gpu_share" if gpus else ""))
    if not most:
        raise ValueError(f"threads: got {threads}, but there are {cores} cores; wanted at most {cores}")
    together = min(jobs or most, count)
    return [Slot(threads, gpus[place % len(gpus)] if gpus else None) for place in range(together)]


def gpus(device: str) -> list[str]:
    """The GPUs that jobs on this device may be sent to; none where they compute elsewhere or on a certain one."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]


class Local:
    """The jobs one after the other, in a process of their own that may die without the sweep."""

    extra: ClassVar[tuple[str, str] | None] = None
    together: ClassVar[bool] = False

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def slots(self, sweep: Sweep, count: int) -> list[Slot]:
        """The share of the machine that each worker has."""
        return [Slot(sweep.config["threads"] or cores())]

    def problems(self, settings: Settings) -> list[str]:
        """Nothing can be wrong."""
        return []

    def run(self, sweep: Sweep, jobs: Sequence[Job]) -> dict[int, float | None]:
        """Run the jobs; one whose process is killed is recorded as failed, and the others go on."""
        if not self.workers:  # a search launches again and again
            sweep.task.end.callback(self.close)
            for slot in self.slots(sweep, len(jobs)):
                self.workers.append(Worker(sweep, slot))
        waiting = deque(spread(jobs) if len(self.workers) > 1 else jobs)
        scores: dict[int, float | None] = {}
        try:
            while len(scores) < len(jobs):
                for worker in self.workers:
                    if waiting and worker.job is None:
                        worker.give(waiting.popleft())
                busy: dict[Any, Worker] = {handle: worker for worker in self.workers if worker.job for handle in worker.handles}
                for worker in {busy[handle] for handle in wait(list(busy))}:
                    job = worker.job
                    assert job is not None
                    try:
                        scores[job.number] = worker.answer()
                    except Died as died:
                        sweep.bury(job, str(died), died.status)
                        print(f"kdrun: job {job.number}: {died}", file=sys.stderr)
                        scores[job.number] = None
                    if len(jobs) > 1:
                        print(f"{len(scores)} of {counted(len(jobs), 'job')} done", file=sys.stderr)
        except BaseException:
            for worker in self.workers:
                worker.interrupt()
            raise  # `close` waits for them
        return scores

    def close(self) -> None:
        """End the workers, when each has done what it is at."""
        for worker in self.workers:
            worker.close()
        self.workers = []


class Parallel(Local):
    """Several jobs at once, with the cores and GPUs shared out between them.

    Args:
        jobs: how many at once; None for as many as there are cores for `threads` each, or `gpu_share` a GPU.
        gpu_share: how many jobs a GPU takes at once.
    """

    together = True

    def __init__(self, *, jobs: AtLeastOne | None, gpu_share: AtLeastOne) -> None:
        super().__init__()
        self.jobs, self.gpu_share = jobs, gpu_share

    def slots(self, sweep: Sweep, count: int) -> list[Slot]:
        """The share of the machine that each worker has."""
        return self.shares(sweep.config.device, sweep.config.threads, count)

    def shares(self, device: str, threads: int | None, count: int) -> list[Slot]:
        """The shares of so many jobs with these settings."""
        return slots(cores(), gpus(device), count, self.jobs, threads or cores(), self.gpu_share)

    def problems(self, settings: Settings) -> list[str]:
        """More jobs or threads than the machine has."""
        try:
            self.shares(settings.run.device, settings.run.threads, 1)
        except ValueError as error:
            return [str(error)]
        return []


class Died(RuntimeError):
    """A worker's process is gone; the text says why.

    Attributes:
        status: for the record of its job: above 128 where it was told to stop, and saved what it had.
    """

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(death(exit_code))
        self.status = exit_code if exit_code is not None and exit_code > 128 else 1


class Worker:
    """A process that does one job after the other; when it dies, the next job gets a new one."""

    def __init__(self, sweep: Sweep, slot: Slot) -> None:
        self.sweep, self.slot = sweep, slot
        self.job: Job | None = None
        self.start()

    def start(self) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")  # a fork would inherit OpenMP's and CUDA's state, broken
        self.pipe, pipe = context.Pipe()
        life, self.life = context.Pipe(duplex=False)
        self.process = context.Process(target=serve, args=(pipe, life, self.sweep))
        with environment(self.slot.environment), deaf(), signals.postponed():  # half started it cannot be told to end
            self.process.start()
        pipe.close()
        life.close()

    @property
    def handles(self) -> tuple[Connection, int]:
        """What becomes ready when the job is done or the process dead."""
        return self.pipe, self.process.sentinel

    def give(self, job: Job) -> None:
        """Let it do a job."""
        if not self.process.is_alive():
            self.close()
            self.start()
        self.job = job
        with contextlib.suppress(BrokenPipeError):  # it died this moment, which `answer` will find
            self.pipe.send(job)

    def answer(self) -> float | None:
        """The score of its job.

        Raises:
            Died: the process is gone.
        """
        self.job = None
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError) as gone:
            self.process.join()
            raise Died(self.process.exitcode) from gone

    def interrupt(self) -> None:
        """Let it save its job and end; who does not want to wait for that ends this process, and that ends the worker."""
        if self.job is not None:
            with contextlib.suppress(BrokenPipeError):
                self.life.send("end")

    def close(self) -> None:
        """End the process, when its job is done."""
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(None)
        self.process.join()
        self.pipe.close()
        self.life.close()


@contextlib.contextmanager
def environment(own: Mapping[str, str]) -> Iterator[None]:
    """With these variables in the environment, inside."""
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """A process started inside never hears Ctrl-C, which a terminal sends to all: its parent does, and tells it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def serve(pipe: Connection, life: Connection, sweep: Sweep) -> None:
    """What a worker runs: the jobs that come through a pipe, until there are no more."""
    threading.Thread(target=heed_parent, args=(life,), daemon=True).start()
    while (job := received(pipe)) is not None:
        try:
            with signals.heeded():
                score = sweep.execute(job)
        except signals.Interrupted as interrupted:
            sys.exit(interrupted.status)
        pipe.send(score)


def received(pipe: Connection) -> Any:
    """What comes next through a pipe; None when nothing will."""
    try:
        return pipe.recv()
    except EOFError:
        return None


def heed_parent(life: Connection) -> None:
    """Interrupt this process when its parent says so or is gone; and stop it at once if it is gone after saying so."""
    there = received(life) is not None
    if not signals.pending():  # a terminal or a scheduler may have told all processes
        os.kill(os.getpid(), signal.SIGTERM)
    if there:
        received(life)
        os.kill(os.getpid(), signal.SIGTERM)
