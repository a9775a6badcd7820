"""The parts of the bench that start processes: how fast kdrun answers, what memory kept is worth, and sweeps."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from kdrun.bench.measure import Row, Time, median_ratio
from kdrun.bench.workload import Subject

__all__ = ["memory", "startup", "sweep"]

FIRST_STEP = """
import os, sys
from kdrun.cli import main as cli
from kdrun.utils import progress as terminal
before = terminal.Progress.phase
def phase(self, *told):
    if self.console is not None:  # not the rehearsal
        os._exit(0)
    return before(self, *told)
terminal.Progress.phase = phase
sys.exit(cli.main(sys.argv[1:]))
"""

STEPS = """
import json, sys, pathlib
from kdrun.config import speed
speed.environment()
from kdrun.bench.loop import prepared
from kdrun.bench.workload import Subject
from kdrun.training.loop import distill
told = json.loads(sys.argv[1])
subject = Subject(**{**told, "folder": pathlib.Path(told["folder"]), "words": (f"speed.keep_memory={sys.argv[2]}",)})
run, moments = prepared(subject, "kd", count=20 * subject.batch_size), []
stream = run.build_stream()
class Watched:
    def __len__(self):
        return len(stream)
    def epoch(self, *asked):
        for batch in stream.epoch(*asked):
            moments.append(subject.clock.now())
            yield batch
run.build_stream = Watched
distill(run)
print(json.dumps([subject.clock.seconds(end - start) for start, end in zip(moments[4:], moments[5:])]))
"""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a command finds in its environment: this process's own number of threads is not for others."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")} | dict(extra)


def child(words: Sequence[str], extra: Mapping[str, str] | None = None) -> tuple[Time, str]:
    """Run a command: what it took, of the clock and of the CPU, and what it printed.

    Raises:
        RuntimeError: it failed.
    """
    def used() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    start, before = time.perf_counter(), used()
    done = subprocess.run(words, env=environment(extra or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:6])} ... ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    return Time(time.perf_counter() - start, used() - before), done.stdout


def kdrun(*words: str) -> list[str]:
    """A command of kdrun's."""
    return [sys.executable, "-m", "kdrun", *words]


def startup(subject: Subject) -> Iterator[Row]:
    """How long kdrun takes to answer, and to get to the first step of a training. The CPU's time."""
    completion, typed = kdrun("-sc", "query=bash"), {"COMP_LINE": "kdrun method=a", "COMP_POINT": "14", "COMP_CWORD": "1"}
    asked = {"--help": (kdrun("--help"), {}, 0.3), "list methods": (kdrun("list", "methods"), {}, 0.3),
             "completion of method=": (completion, typed, 0.3),
             "a job, until its first step": ([sys.executable, "-c", FIRST_STEP, "threads=1",
                                              f"outputs={subject.folder / 'first'}"], {"OMP_NUM_THREADS": "1"}, 5.0)}
    for name, (words, extra, most) in asked.items():
        times = [child(words, extra)[0].cpu for _ in range(4)][1:]  # the first one fetches files from the disk
        took = statistics.median(times)
        yield Row("startup", name, took, value=took, unit="s", bound=("at most", most) if most else None)


def memory(subject: Subject) -> Row:
    """Steps of the engine in fresh processes that keep memory, against those of others that do not."""
    told = json.dumps({**{name: value for name, value in vars(subject).items() if name in Subject.__dataclass_fields__},
                       "folder": str(subject.folder), "samples": 2000})
    kept, given = list[float](), list[float]()
    for _ in range(2):
        for name, times in (("true", kept), ("false", given)):
            times += json.loads(child([sys.executable, "-c", STEPS, told, name])[1])
    return Row("formats", "kd: a step with memory kept", statistics.fmean(kept), "memory handed back", statistics.fmean(given),
              statistics.median(kept) / statistics.median(given), "x", ("at most", 1.05))


def sweep(subject: Subject) -> Iterator[Row]:
    """A small sweep, a job a core, against its jobs on all cores; and a run on all cores beside a busy neighbour.

    Both start with their teacher and baseline trained, so that nobody waits for another.
    """
    count = 2 * len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2 * (os.cpu_count() or 1)
    small = ["recipe.epochs=20", "teacher=resnet20", f"outputs={subject.folder / 'sweep'}", "rerun=true"]
    wide = [*small, "threads=null"]  # as many as there are cores
    child(kdrun(*small))
    child(kdrun(*wide))
    sweeping = ["-m", f"method.temperature={','.join(str(2 + place) for place in range(count))}"]
    spinning = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}  # what OpenMP does where nobody tells it otherwise
    ways: dict[str, Callable[[], float]] = {
        "parallel": lambda: child(kdrun(*sweeping, *small, "launch=parallel"))[0].wall,
        "in turn": lambda: child(kdrun(*sweeping, *wide, "launch=local"))[0].wall,
        "at once": lambda: together([kdrun(f"method.temperature={2 + place}", *wide) for place in range(count)], spinning)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2):
        for name, way in ways.items():
            times[name].append(way())
    ours = times["parallel"]
    for name, against, bound in (("at once", "all at once, each on all cores", ("at least", 3.5)),
                                 ("in turn", "one after the other on all cores", None)):
        yield Row("sweep", f"{count} jobs by launch=parallel", statistics.fmean(ours), against, statistics.fmean(times[name]),
                  median_ratio(times[name], ours), "x", bound)  # type: ignore[arg-type]
    quiet, busy = [], []
    for _ in range(2):
        quiet.append(child(kdrun(*wide))[0].wall)
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            busy.append(child(kdrun(*wide))[0].wall)
        finally:
            neighbour.kill()
            neighbour.wait()
    yield Row("sweep", "a run beside a busy neighbour", statistics.fmean(busy), "the same run alone",
              statistics.fmean(quiet), median_ratio(busy, quiet), "x", ("at most", 2.0))


def together(commands: Sequence[Sequence[str]], extra: Mapping[str, str]) -> float:
    """Run commands at the same time: how long until the last is done, by the clock on the wall.

    Raises:
        RuntimeError: one failed.
    """
    start = time.perf_counter()
    running = [subprocess.Popen(words, env=environment(extra), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for words in commands]
    try:
        if sum(abs(process.wait()) for process in running):
            raise RuntimeError(f"one of {len(commands)} runs at once failed")
    finally:
        for process in running:
            process.kill()  # nothing to those that are done; the others would write into a folder that is being removed
            process.wait()
    return time.perf_counter() - start
