"""A job as Hydra calls it, and what is told of the jobs of a sweep when all are done."""

import contextlib
import errno
import json
import logging
import os
import shlex
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kdrun.config import registry
from kdrun.config.instantiation import instantiate
from kdrun.config.schema import ConfigError, Settings
from kdrun.storage.resume import ASKED, asked_in
from kdrun.sweeps import summary
from kdrun.sweeps.search.pruning import PRUNED, Pruned, screen_of
from kdrun.utils.console import plain_console
from kdrun.utils.files import held, text_of, write_atomically
from kdrun.utils.progress import Progress, run_table
from kdrun.utils.signals import Interrupted
from kdrun.utils.wording import counted

__all__ = ["Outcome", "attempt", "common", "record", "report", "work"]

log = logging.getLogger("kdrun")

MENDABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class Outcome(NamedTuple):
    """What came of a job: its exit status, what went wrong in a line, the validation score, and who stopped it."""

    status: int
    error: str = ""
    score: float | None = None
    interrupted: Interrupted | None = None


def work(cfg: DictConfig) -> tuple[int, float | None]:
    """Do one run: (exit status, validation score). What went wrong is told, logged and kept, and not raised.

    Raises:
        Interrupted: in a sweep, whose other jobs shall not begin.
    """
    hydra = HydraConfig.get()
    registry.use(Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file")
    several = hydra.mode == RunMode.MULTIRUN
    screen = Progress(plain_console(stderr=True))
    if several:
        speaker = f"[{hydra.job.num}] " if instantiate(cfg.launch, "launcher").together else ""
        screen = screen_of(Path(hydra.sweep.dir), hydra.job.num, plain_console(stderr=True), speaker)
    folder = Path(hydra.runtime.output_dir)

    def job() -> list[dict[str, Any]]:
        settings = Settings.read(cfg, hydra.runtime.choices)
        if several:
            own = ", ".join(word for word in hydra.overrides.task if word not in asked_words(Path(hydra.sweep.dir)))
            screen.note(f"job {hydra.job.num}{f': {own}' if own else ''}")
        from kdrun.experiment import run
        from kdrun.utils import distributed  # with torch

        lock = held(folder / ".lock", lambda: screen.note(f"{shown(folder)}: another process is at this run, waiting"))
        with lock if distributed.first() else contextlib.nullcontext():
            return run(settings, screen)

    status, error, score, interrupted = attempt(folder, job, several)
    if several:
        try:
            record(Path(hydra.sweep.dir), hydra.job.num, status, error, folder, score, list(hydra.overrides.task))
        except OSError as full:
            print(f"kdrun: what came of job {hydra.job.num} could not be kept: {full.strerror}", file=sys.stderr)
        if interrupted is not None:
            raise interrupted
    return status, score


def attempt(folder: Path, job: Callable[[], list[dict[str, Any]]], several: bool) -> Outcome:
    """Do a job and tell what it made or why it could not.

    Args:
        folder: of its run.
        job: does the run and returns its rows.
        several: whether it is one of a sweep, which shows the results of all together.
    """
    status, error, score, interrupted = 0, "", None, None
    logging.raiseExceptions = False  # a log on a full disk is not worth a traceback on the screen
    try:
        rows = job()
        (folder / "traceback.txt").unlink(missing_ok=True)  # of an earlier attempt
        score = validation_score(folder)
        if not several:
            plain_console().print(run_table(rows, folder.name))
            tables = sorted(folder.glob("*.csv"), key=lambda path: (path.name != "results.csv", path.name))
            for path in (*tables, *folder.glob("*.png")):
                plain_console().print(shown(path), soft_wrap=True)
    except ConfigError as refused:
        status, error = 2, "; ".join(refused.problems)
        for line in refused.problems:
            log.error(line)
            print(f"kdrun: {line}", file=sys.stderr)
        if not (folder / ASKED).exists():
            withdraw(folder)
    except Interrupted as asked:
        status, error, interrupted = asked.status, asked.told(going_on(folder)), asked
        log.warning(error)
        if not several:  # the report of a sweep says it of each
            print(f"kdrun: {error}", file=sys.stderr)
    except Pruned as stopped:
        status, error = PRUNED, str(stopped)
    except Exception as failure:
        status, error = 1, cause(failure, folder)
        trace = traceback.format_exc()
        try:
            write_atomically(folder / "traceback.txt", lambda path: path.write_text(trace))
            told_at = f"the whole story: {shown(folder / 'traceback.txt')}"
        except OSError as full:  # the failure itself may be a full disk
            told_at = f"its traceback could not be kept: {full.strerror}"
        log.exception("failed")
        print(f"kdrun: {error} ({told_at})", file=sys.stderr)
    return Outcome(status, error, score, interrupted)


def withdraw(folder: Path) -> None:
    """Take away what Hydra and the lock left in the folder of a run that never began, and the folders that are empty then."""
    with contextlib.suppress(OSError):  # it holds more, of an earlier run
        for name in (".lock", "kdrun.log"):
            (folder / name).unlink(missing_ok=True)
        for place in (folder, folder.parent, folder.parent.parent):
            if place not in (Path.cwd(), *Path.cwd().parents):
                place.rmdir()


def cause(failure: Exception, folder: Path) -> str:
    """Why a run failed, in a line."""
    if isinstance(failure, OSError) and failure.filename is not None:
        line = f"cannot use {failure.filename}: {failure.strerror}"
        return f"{line}; when that is mended, {going_on(folder)}" if failure.errno in MENDABLE else line
    return f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"


def going_on(folder: Path) -> str:
    """How to go on with an unfinished run."""
    if not (folder / ASKED).exists():
        return "nothing was trained yet, and the same command begins again"
    return f"`kdrun resume {shown(folder)}` (or the same command) goes on"


def record(sweep: Path, number: int, status: int, error: str, folder: Path, score: float | None, words: list[str]) -> None:
    """Keep what came of a job of a sweep."""
    told = {"job": number, "status": status, "error": error, "folder": str(folder), "score": score, "overrides": words}
    write_atomically(sweep / "jobs" / f"{number}.json", lambda path: path.write_text(json.dumps(told, indent=1)))


def shown(path: Path) -> str:
    """A path as short as it can be told."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def validation_score(folder: Path, role: str = "student") -> float | None:
    """The headline on validation (accuracy, of a classifier) of a role after the last epoch: what a search may choose by."""
    import pandas

    told = json.loads(text_of(folder / "run.json"))
    headline = told["rows"][0].get("headline", "accuracy")  # which older versions do not name
    history = pandas.read_csv(folder / "history.csv")
    own = history[(history["role"] == role) & (history["split"] == "validation") & (history["metric"] == headline)]
    return float(own["value"].iloc[-1]) if len(own) else None


def recorded(sweep: Path) -> list[dict[str, Any]]:
    """What came of the jobs of a sweep, by their numbers; a record that is damaged is told of and left out."""
    found: dict[int, dict[str, Any]] = {}
    for path in (sweep / "jobs").glob("*.json"):
        try:
            job = json.loads(text_of(path))
            if not (isinstance(job["job"], int) and isinstance(job["status"], int) and path.stem == str(job["job"]) and
                    all(isinstance(text, str) for text in (job["error"], job["folder"], *job["overrides"]))):
                raise ValueError("it does not hold what it should")
            found[job["job"]] = job
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            print(f"kdrun: skipped {shown(path)}: it is damaged ({(str(error).splitlines() or [''])[0]})", file=sys.stderr)
    return [found[number] for number in sorted(found)]


def report(sweep: Path, asked: list[Settings], interrupted: Interrupted | None = None) -> int:
    """Compare the jobs of a sweep and name those that failed; the exit status is 1 if any did, or who interrupted's."""
    jobs = recorded(sweep)
    shared = common([job["overrides"] for job in jobs])
    presets = {word.rpartition("/")[0] for job in jobs for word in job["overrides"] if word.startswith("experiment=")}
    preset = f"{presets.pop()}/" if len(presets) == 1 else "experiment="  # rows of one preset are told by their names
    done: dict[str, list[dict[str, dict[str, Any]]]] = defaultdict(list)
    for job in jobs:
        if job["status"] == 0:
            told = json.loads(text_of(Path(job["folder"]) / "run.json"))
            varied = [word for word in job["overrides"] if word not in shared and not word.startswith("seed=")]
            own = " ".join(word.removeprefix("method=").removeprefix(preset) for word in varied)
            done[own or told["rows"][0]["method"]].append({row["role"]: row for row in told["rows"]})
    if done:
        plain_console().print(summary.table([summary.line(settings, runs) for settings, runs in done.items()]))
        runs = Path(jobs[0]["folder"]).parent
        plain_console().print(f"{shown(runs)}: a folder for each run", soft_wrap=True)
        for line in next_commands(runs.parent, max(map(len, done.values()))):
            plain_console().print(line, soft_wrap=True)
    failed = [job for job in jobs if job["status"]]
    missing = max(len(asked) - len(jobs), 0)
    for job in failed:
        stopped = "" if job["status"] > 128 else "failed: "
        own = ", ".join(word for word in job["overrides"] if word not in shared)
        print(f"kdrun: job {job['job']}{f' ({own})' if own else ''} {stopped}{job['error']}", file=sys.stderr)
    if interrupted is not None:
        done_by_now = len(jobs) - len(failed)
        on = f"{done_by_now} of {counted(len(asked), 'job')} done; `kdrun resume {shown(sweep)}` (or the same command) goes on"
        print(f"kdrun: {interrupted.told(on)}", file=sys.stderr)
        return interrupted.status
    if missing:
        print(f"kdrun: {missing} of {counted(len(asked), 'job')} left no result", file=sys.stderr)
    return 1 if failed or missing else 0


def asked_words(sweep: Path) -> list[str]:
    """The words of a sweep's command line, which stand in the command line of every job as they are."""
    with contextlib.suppress(ConfigError):  # damaged meanwhile, which costs a shorter line
        return (asked_in(sweep) or {}).get("words", [])
    return []


def common(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The words that all jobs have."""
    return set.intersection(*map(set, jobs)) if jobs else set()


def next_commands(outputs: Path, seeds: int) -> list[str]:
    """What to do with the runs of a sweep, a line each."""
    place = "" if outputs == Path("outputs").absolute() else f" --outputs {shlex.quote(shown(outputs))}"
    found = [f"next: kdrun tables league{place}   ranks and tests them, together with all earlier runs",
             f"      kdrun report{place}   puts everything on one page, with plots"]
    return found + (["      the same with seed=1,2,3   tells a gap from chance: one seed has no spread"] if seeds < 2 else [])
