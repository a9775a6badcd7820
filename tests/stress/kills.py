"""Runs that are killed at random moments and started again until they are done: do they end in the very same bytes?

Each life of a run is a fork of this process, after one run has imported all that there is to import.
"""

import csv
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kdrun import experiment
from kdrun.utils import files, progress
from kdrun.utils.progress import Progress
from tests.toy import toy_settings

TIMES = ("latency_ms", "latency_iqr_ms", "machine_busy", "seconds")  # of this machine at this moment: no two runs have the same
EVENTS = ((files.os, "replace"), (files.os, "fsync"), (files.tempfile, "mkstemp"), (shutil, "rmtree"),
          (progress.Silent, "step"), (progress.Silent, "epoch"))
EVER = "checkpoint_seconds=0.000001"


def at_each_event(happened: Callable[[], None]) -> None:
    """Call this before and after each write, each removal and each step: from now on, in this process."""
    def watched(function):
        def call(*arguments, **named):
            happened()
            result = function(*arguments, **named)
            happened()
            return result
        return call

    for owner, name in EVENTS:
        setattr(owner, name, watched(getattr(owner, name)))


def life(method: str, outputs: Path, events: int | None = None, seconds: float | None = None) -> tuple[int, int]:
    """One life of a run, killed after so many events or seconds: (its wait status, the events that it had)."""
    counted = outputs / "events"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            count = 0

            def happened() -> None:
                nonlocal count
                count += 1
                if count == events:
                    os.kill(os.getpid(), signal.SIGKILL)

            at_each_event(happened)
            experiment.run(toy_settings(method, f"outputs={outputs}", EVER), Progress(None))
            counted.write_text(str(count))
            status = 0
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status, int(counted.read_text()) if status == 0 else 0


def results(outputs: Path) -> Iterator[tuple[str, object]]:
    """All that a run made and another run has to make alike."""
    for path in sorted(outputs.rglob("*")):
        name = str(path.relative_to(outputs))
        if not path.is_file():
            continue
        if path.name == "results.csv":
            with path.open(errors="replace") as file:  # a damaged one is read as well
                rows = list(csv.DictReader(file))
            yield name, [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
        elif path.suffix in (".csv", ".safetensors"):
            yield name, path.read_bytes()
        elif ".part" in name or ".unfinished/" in name:
            yield name, None  # nothing half done may be left


def killed(method: str, kills: int, draws: random.Random, folder: Path) -> dict[str, object]:
    """Kill a run so many times, half of them at an event and half at a moment, and compare."""
    whole, torn = folder / "whole", folder / "torn"
    whole.mkdir(), torn.mkdir()
    start = time.monotonic()
    status, total = life(method, whole)
    assert status == 0, f"{method} does not run"
    length = time.monotonic() - start
    died = lives = done = 0
    points = sorted(draws.randrange(1, total) for _ in range(kills))
    for number, (before, point) in enumerate(zip([0, *points], points, strict=False)):
        # resumed lives begin with what they did before, so a moment late in the whole run is late in theirs too
        status, _ = life(method, torn, events=max(point - before, 1)) if number % 2 == 0 else \
            life(method, torn, seconds=draws.uniform(0.05, length / 2))
        died, lives = died + os.WIFSIGNALED(status), lives + 1
        assert os.WIFSIGNALED(status) or status == 0, f"{method} failed in life {lives}"
        if status == 0:
            done += 1
            shutil.rmtree(torn)  # begin again: there are kills left
            torn.mkdir()
    status, _ = life(method, torn)
    assert status == 0, f"{method} did not finish"
    wanted, got = dict(results(whole)), dict(results(torn))
    wrong = [name for name in sorted(wanted.keys() | got.keys()) if wanted.get(name) != got.get(name)]
    return {"method": method, "kills": died, "finished_early": done, "events": total, "files": len(wanted), "wrong": wrong,
            "seconds": round(time.monotonic() - start, 1)}


def run(kills: int, seed: str, methods: Iterable[str]) -> Iterator[dict[str, object]]:
    """Kill a run of each method so many times; what came of it, method by method."""
    with tempfile.TemporaryDirectory() as folder:
        experiment.run(toy_settings("kd", f"outputs={folder}"), Progress(None))
    for method in methods:
        with tempfile.TemporaryDirectory() as folder:
            yield killed(method, kills, random.Random(f"{seed} {method}"), Path(folder))
