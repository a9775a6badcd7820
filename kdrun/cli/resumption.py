"""Going on with an interrupted run or sweep, by what its folder says: text from anywhere, checked before it is used."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdrun.cli import overrides
from kdrun.cli.hydra_command import hydra_command
from kdrun.cli.overrides import blocked
from kdrun.config import registry
from kdrun.config.composition import group_choices
from kdrun.config.constraints import closest
from kdrun.config.schema import GROUPS, ConfigError, Settings
from kdrun.config.targets import known_targets, strangers
from kdrun.storage.finished import finished
from kdrun.storage.resume import ASKED, CHECKPOINTS, Asked, OtherCode, asked_in
from kdrun.sweeps.job import attempt, held, shown
from kdrun.utils.console import plain_console
from kdrun.utils.progress import Progress

__all__ = ["resume"]


def resume(folder: Path, trusted: bool = False, other_code: OtherCode = "refuse") -> int:
    """Go on with the run or the sweep of a folder; returns the exit status.

    Args:
        folder: of the run or the sweep.
        trusted: whether its settings may name any code to be run.
        other_code: what becomes of checkpoints that other code made.

    Raises:
        ConfigError: it cannot be gone on with; nothing was trained.
    """
    folder = folder.absolute()
    if (told := asked_in(folder)) is None:
        if (folder / "run.json").is_file():
            print(f"{folder} is finished")
            return 0
        raise ConfigError([f"{folder} is not there" if not folder.exists() else
                       f"{folder} is not the folder of a run or a sweep: it has no {ASKED}; wanted one of those in runs/ or "
                       "sweeps/ of your outputs"])
    return resume_sweep(folder, told, trusted) if "words" in told else resume_run(folder, told, trusted, other_code)


def resume_run(folder: Path, told: Asked, trusted: bool, other_code: OtherCode) -> int:
    """Go on with a run."""
    notes: list[str] = []  # of a run that goes on, it says them itself
    if not (folder / CHECKPOINTS).exists() and finished(folder, notes.append) is not None:
        print(*notes, f"{folder} is finished", sep="\n")
        return 0
    if not trusted and (lines := strangers(told["settings"], known_targets())):
        raise ConfigError([f"{folder}: {line}" for line in lines])
    known = group_choices()
    chosen = {group: str(told["choices"].get(group, "")) for group in (*GROUPS, *told["choices"])}
    unknown = [f"{folder}: its {group} is '{choice}', and there is no such choice here" + closest(choice, known.get(group, ()))
               for group, choice in chosen.items() if choice not in known.get(group, ())]
    if lines := unknown or blocked(folder):
        raise ConfigError(lines)
    logging.basicConfig(filename=folder / "kdrun.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s",
                        force=True)
    screen = Progress(plain_console(stderr=True))
    outputs = folder.parent.parent if folder.parent.name == "runs" else folder  # it may have been moved
    settings = Settings(told["settings"] | {"outputs": str(outputs)}, told["choices"])
    screen.note(f"going on with {shown(folder)}")

    def job() -> list[dict[str, Any]]:
        from kdrun.experiment import run  # with torch

        with held(folder / ".lock", lambda: screen.note(f"{shown(folder)}: another process is at this run, waiting")):
            return run(settings, screen, folder, other_code)

    status = attempt(folder, job, several=False).status
    if status == 2 and told.get("cwd") != str(Path.cwd()):
        print(f"kdrun: the run was started in {told.get('cwd')}, and its settings may name files from there", file=sys.stderr)
    return status


def resume_sweep(folder: Path, told: Asked, trusted: bool) -> int:
    """Go on with a sweep: its command line again, which does not repeat what is finished."""
    options = overrides.options_of(told["words"])
    folders = [str(Path(place).absolute()) for place in (*told.get("config_dirs", []), options.config_dir) if place]
    if not options.multirun or any(value for name, value in vars(options).items()
                                   if name not in ("multirun", "overrides", "config_dir")):
        raise ConfigError([f"{folder}: what {ASKED} holds is not the command line of a sweep: {' '.join(told['words'])}"])
    if not trusted and (lines := risks(options.overrides, folders)):
        raise ConfigError([f"{folder}: its command line has {line}, which may run any code; if you know who made the folder, "
                           "add "
                       "--trust" for line in lines])
    if told["cwd"] != str(Path.cwd()):
        raise ConfigError([f"{folder}: this sweep was started in {told['cwd']}, and its settings may name files from there; go "
                           "on "
                       "with it there"])
    words = ["-m", *(f"--config-dir={place}" for place in folders), *options.overrides]
    known = known_targets()

    def guard(settings: Settings) -> list[str]:
        """What a job's settings would call or write to that is not the sweep's own."""
        lines = strangers(settings.values, known) or elsewhere(settings, folder.parent.parent)
        return [f"{folder}: {line}" for line in lines]

    return hydra_command(words, folder, None if trusted else guard)


def risks(words: Sequence[str], folders: Sequence[str]) -> list[str]:
    """What the recorded command line of a sweep has that may run any code, before anything is composed of it.

    Args:
        words: its settings.
        folders: of its own configs; those that are given now too are no risk.
    """
    mine = {str(path) for path in registry.folders()}
    return [*(f"--config-dir {place} (unless you give that too)" for place in folders if place not in mine),
            *(str(override.input_line) for override in overrides.parse(words)
              if "_target_" in str(override.input_line) or
              any((name or "").replace("/", ".").partition(".")[0] == "hydra"
                  for name in (override.key_or_group, override.package)))]


def elsewhere(settings: Settings, outputs: Path) -> list[str]:
    """Where the settings of a recorded sweep reach beyond the outputs that it lies in, a line each."""
    launch = str(settings.node("launch")["_target_"])
    storage = settings.node("sweep").get("storage")
    found = [f"its settings write to {path}, not to {outputs}; if you know who made the folder, add --trust"
             for path in (settings.outputs, *([Path(storage).absolute()] if storage else []))
             if outputs not in (path, *path.parents)]
    if not launch.startswith("kdrun.sweeps.launchers.workers."):
        found.append(f"its settings send jobs to {launch}, which runs what it is told to by files of "
                     "the folder; if you know who made the folder, add --trust")
    return found
