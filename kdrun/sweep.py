"""A job as Hydra calls it, and what is told of the jobs of a sweep when all are done."""

import json
import logging
import os
import statistics
import sys
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from kdrun import catalogue
from kdrun.config import Refused, Settings
from kdrun.files import write_atomically
from kdrun.terminal import Screen, comparison, run_table

__all__ = ["report", "work"]

log = logging.getLogger("kdrun")


def work(cfg: DictConfig) -> tuple[int, float | None]:
    """Do one run and never raise: (exit status, validation score). What went wrong is told, logged and kept."""
    hydra = HydraConfig.get()
    catalogue.use(Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file")
    several = hydra.mode == RunMode.MULTIRUN
    screen = Screen(Console(stderr=True))
    status, error, score, folder = 0, "", None, Path(hydra.runtime.output_dir)
    try:
        settings = Settings.read(cfg, hydra.runtime.choices)
        if several:
            screen.note(f"job {hydra.job.num}: {', '.join(hydra.overrides.task)}")
        from kdrun.experiment import run

        with FileLock(folder / ".lock"):
            rows = run(settings, screen)
        (folder / "traceback.txt").unlink(missing_ok=True)  # of an earlier attempt
        score = validation_score(folder)
        if not several:
            Console().print(run_table(rows, folder.name))
            for name in ("results.csv", "history.csv", "per_class.csv", "curves.png"):
                if (folder / name).exists():
                    Console(soft_wrap=True).print(f"{shown(folder / name)}", highlight=False)
    except Refused as refused:
        status, error = 2, "; ".join(refused.problems)
        (folder / ".lock").unlink(missing_ok=True)  # nothing was made that it could guard
        for line in refused.problems:
            log.error(line)
            print(f"kdrun: {line}", file=sys.stderr)
    except Exception as failure:
        status, error = 1, f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
        trace = traceback.format_exc()
        try:
            write_atomically(folder / "traceback.txt", lambda path: path.write_text(trace))
            told_at = f"the whole story: {shown(folder / 'traceback.txt')}"
        except OSError as full:  # the failure itself may be a full disk
            told_at = f"its traceback could not be kept: {full.strerror}"
        log.exception("failed")
        print(f"kdrun: {error} ({told_at})", file=sys.stderr)
    if several:
        told = {"job": hydra.job.num, "status": status, "error": error, "folder": str(folder), "score": score,
                "overrides": list(hydra.overrides.task)}
        write_atomically(Path(hydra.sweep.dir) / "jobs" / f"{hydra.job.num}.json",
                         lambda path: path.write_text(json.dumps(told, indent=1)))
    return status, score


def shown(path: Path) -> str:
    """A path as short as it can be told."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def validation_score(folder: Path) -> float | None:
    """The student's validation accuracy after the last epoch: what a search may choose by."""
    import pandas

    history = pandas.read_csv(folder / "history.csv")
    own = history[(history["role"] == "student") & (history["split"] == "validation") & (history["metric"] == "accuracy")]
    return float(own["value"].iloc[-1]) if len(own) else None


def report(sweep: Path, asked: list[Settings]) -> int:
    """Compare the jobs of a sweep and name those that failed; the exit status is 1 if any did."""
    jobs = [json.loads(path.read_text()) for path in sorted((sweep / "jobs").glob("*.json"), key=lambda path: int(path.stem))]
    words = [set(job["overrides"]) for job in jobs]
    shared = set.intersection(*words) if words else set()
    done: dict[str, list[dict[str, dict[str, Any]]]] = defaultdict(list)
    for job in jobs:
        if job["status"] == 0:
            told = json.loads((Path(job["folder"]) / "run.json").read_text())
            varied = [word for word in job["overrides"] if word not in shared and not word.startswith("seed=")]
            own = " ".join(word.removeprefix("method=") for word in varied)
            done[own or told["rows"][0]["method"]].append({row["role"]: row for row in told["rows"]})
    if done:
        Console().print(comparison([summary(settings, runs) for settings, runs in done.items()]))
        Console(soft_wrap=True).print(f"{shown(Path(jobs[0]['folder']).parent)}: a folder for each run", highlight=False)
    failed = [job for job in jobs if job["status"]]
    missing = max(len(asked) - len(jobs), 0)
    for job in failed:
        print(f"kdrun: job {job['job']} ({', '.join(job['overrides'])}) failed: {job['error']}", file=sys.stderr)
    if missing:
        print(f"kdrun: {missing} of {len(asked)} jobs left no result", file=sys.stderr)
    return 1 if failed or missing else 0


def summary(settings: str, runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """A line of the comparison: the runs that differ in their seed alone."""
    def over(role: str, column: str, digits: int, factor: float = 1, spread: bool = False) -> str:
        values = [factor * run[role][column] for run in runs if role in run and run[role][column] is not None]
        if not values:
            return "–"
        about = f" ± {statistics.stdev(values):.{digits}f}" if spread and len(values) > 1 else ""
        return f"{statistics.fmean(values):.{digits}f}{about}"

    return {"settings": settings, "seeds": len(runs),
            **{role: over(role, "accuracy", 2, 100, role != "teacher") for role in ("teacher", "baseline", "student")},
            **{column: over("student", column, 3) for column in ("relative_error", "distillation_score")}}
