"""A trial that is watched while it runs, and stopped where earlier ones were better at that epoch.

The job may run in another process: all it is given is a file beside the records of its sweep, which names the study.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from kdrun.sweeps.search.trials import id_of
from kdrun.utils.files import write_atomically
from kdrun.utils.progress import PhaseProgress, Progress

__all__ = ["PRUNED", "Pruned", "Watch", "screen_of"]

STOPPED = "stopped"  # notes why a trial was pruned, whatever becomes of its process then
PRUNED = 3  # in the record of a job, where 0 is done, 1 failed and 2 refused


class Pruned(Exception):
    """A trial that is not worth going on with."""


@dataclass(frozen=True)
class Watch:
    """Where a job reports, and what may stop it.

    Attributes:
        storage: of the study, a path.
        study: its name.
        trial: its number in the storage.
        startup: how many earlier trials there have to be.
        warmup: how many epochs have to be done.
    """

    storage: str
    study: str
    trial: int
    startup: int
    warmup: int

    def leave(self, sweep: Path, job: int) -> None:
        """Put it where the job finds it."""
        write_atomically(place_of(sweep, job), lambda path: path.write_text(json.dumps(asdict(self))))


def place_of(sweep: Path, job: int) -> Path:
    """Where a job of a sweep finds its watch."""
    return sweep / "trials" / f"{job}.json"


def screen_of(sweep: Path, job: int, console: Console, speaker: str = "") -> Progress:
    """The screen of a job: one that reports to a study where somebody left word of it."""
    with contextlib.suppress(FileNotFoundError):
        return WatchedScreen(console, speaker, Watch(**json.loads(place_of(sweep, job).read_text())))
    return Progress(console, speaker)


class WatchedScreen(Progress):
    """A screen on which a study sees the student's validation accuracy of every epoch, once.

    A trial that was pruned before, by a process that did not live to tell, is so again.

    Args:
        console: where to write.
        speaker: who speaks, where several do at once.
        watch: where to report.
    """

    def __init__(self, console: Console, speaker: str, watch: Watch) -> None:
        import optuna

        super().__init__(console, speaker)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.load_study(study_name=watch.study, storage=watch.storage, pruner=optuna.pruners.MedianPruner(
            n_startup_trials=watch.startup, n_warmup_steps=watch.warmup))
        self.trial, self.before = optuna.Trial(study, watch.trial), 0
        (kept,) = (one for one in study.get_trials(deepcopy=False) if id_of(one) == watch.trial)
        self.reported = max(kept.intermediate_values, default=-1)

    @contextlib.contextmanager
    def phase(self, title: str, name: str, epochs: int, steps: int, done: int = 0) -> Iterator[PhaseProgress]:
        """Show a phase of so many epochs of so many steps, `done` of the steps by earlier sessions.

        Raises:
            Pruned: the trial was pruned before.
        """
        with super().phase(title, name, epochs, steps, done) as progress:
            if not title.startswith("student"):
                yield progress
                return
            if (why := self.trial.user_attrs.get(STOPPED)) is not None:
                raise Pruned(why)
            yield Reporting(progress, self.trial, self.before, self.reported)
            self.before += epochs


class Reporting:
    """Progress that is told to a study too.

    Args:
        progress: what is shown.
        trial: the study's.
        before: the student's epochs in earlier phases.
        reported: the last step that an earlier session told of; -1 for none.
    """

    def __init__(self, progress: PhaseProgress, trial: Any, before: int, reported: int) -> None:
        self.progress, self.trial, self.before, self.reported = progress, trial, before, reported

    def step(self) -> None:
        """A step is done."""
        self.progress.step()

    def epoch(self, done: int, terms: Mapping[str, float], accuracy: float | None) -> None:
        """An epoch is done.

        Raises:
            Pruned: earlier trials were better by now.
        """
        self.progress.epoch(done, terms, accuracy)
        if accuracy is None:
            return
        epoch = self.before + done
        step = epoch - 1  # Optuna counts from 0
        if step > self.reported:
            self.trial.report(accuracy, step)
        if step >= self.reported and self.trial.should_prune():
            why = f"stopped after epoch {epoch} with a validation accuracy of {100 * accuracy:.2f} %, below the median of " \
                "earlier trials"
            self.trial.set_user_attr(STOPPED, why)
            raise Pruned(why)
