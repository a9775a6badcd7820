"""What an unfinished run needs to go on: what was asked for, and by which code it was begun."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kdrun import __version__
from kdrun.config import registry
from kdrun.config.constraints import closest
from kdrun.config.schema import GROUPS, ConfigError, Settings
from kdrun.config.targets import known_targets, strangers, targets
from kdrun.storage.finished import finished
from kdrun.utils.files import remove, sweep_up, text_of, write_atomically

__all__ = ["ASKED", "CHECKPOINTS", "OtherCode", "asked_in", "begin", "begin_sweep", "resume"]

ASKED = "asked.json"  # beside run.json, which is there when a run is done
CHECKPOINTS = "checkpoints"
RUN_FILES = (ASKED, "run.json", "kdrun.log", ".lock", "traceback.txt", "results.csv", "history.csv", "per_class.csv",
             "calibration.csv", "curves.png", "student.safetensors")  # what each run writes
CODE = {"kdrun": "kdrun {}", "torch": "torch {}", "code": "kdrun's code or that of your own modules", "device": "device {}"}

OtherCode = Literal["anew", "refuse", "mix"]
Asked = dict[str, Any]


def begin(folder: Path, settings: Settings, device: str, note: Callable[[str], None], other_code: OtherCode = "anew") -> None:
    """Keep what is asked for in the run's folder, and see to it that checkpoints of other code do not pass unnoticed.

    Args:
        folder: of the run, which this process holds the lock of.
        settings: what is asked for.
        device: on which it is trained.
        note: told what becomes of older checkpoints.
        other_code: what to do with checkpoints that other code made: begin anew, refuse, or go on from them.

    Raises:
        ConfigError: there are some, and that is what to do; or the settings name code that lies in no file.
    """
    import torch

    now = {"kdrun": __version__, "torch": torch.__version__, "device": device, "code": code_of(settings.values)}
    sweep_up(folder)
    checkpoints = folder / CHECKPOINTS
    try:
        before = asked_in(folder)
    except ConfigError:  # then nobody knows what made the checkpoints
        before = None
        if checkpoints.exists():
            note(f"beginning anew, for {folder / ASKED} is damaged, which says what made the checkpoints")
            remove(checkpoints)
    if checkpoints.exists() and before is not None and (changed := differences(before["by"], now)):
        if other_code == "refuse":
            raise ConfigError([f"{folder}: what made its checkpoints has changed since ({changed}), so the end would not be "
                               "that "
                           "of a run in one go; `kdrun resume --anyway` goes on from them all the same, and the command "
                           "that began it begins anew"])
        if other_code == "mix":
            note(f"going on from checkpoints that something else made ({changed}); the end is not that of a run in one go")
        else:
            note(f"beginning anew, for what made the checkpoints has changed since ({changed}); `kdrun resume --anyway` would "
                 "have gone on from them")
            remove(checkpoints)
    told = {"choices": settings.choices, "settings": settings.values, "by": now, "cwd": str(Path.cwd()),
            "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_atomically(folder / ASKED, lambda path: path.write_text(json.dumps(told, indent=1, default=str)))


def code_of(values: Mapping[str, Any]) -> str:
    """A digest of the code that a run is made by: the loop, and all that its settings name by `_target_` or as a network.

    Raises:
        ConfigError: something that they name lies in no file.
    """
    from kdrun.storage.fingerprint import CAST, LOOP, fingerprint

    groups = [values.get(group) for group in ("dataset", "teacher", "student", "method", "scheme")]
    known = registry.options("model")
    named = sorted({text for text in texts([groups[3:], values.get("teachers")]) if text in known})  # assistants, boosters, ...
    networks = [registry.network(name) for name in named]
    try:
        code = fingerprint(*LOOP, *CAST, *sorted(set(targets([groups, networks]))))
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    return hashlib.sha256(json.dumps([code, networks], sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What has changed between two descriptions of what a run is made by; empty for nothing."""
    changed = [key for key in CODE if before.get(key) != now[key]]
    if changed == ["code"] or not changed:
        return CODE["code"] if changed else ""
    return ", ".join(f"{CODE[key].format(before.get(key))}, now {now[key]}" for key in changed if key != "code")


def begin_sweep(sweep: Path, overrides: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Keep in a sweep's folder what was asked for.

    Args:
        sweep: the folder.
        overrides: the settings of the command line.
        folders: of the user's own configs.
    """
    told = {"words": ["-m", *overrides], "config_dirs": list(folders), "cwd": str(Path.cwd())}
    write_atomically(sweep / ASKED, lambda path: path.write_text(json.dumps(told, indent=1)))


def asked_in(folder: Path) -> Asked | None:
    """What was asked for in the folder of a run or a sweep; None where nothing was.

    Raises:
        ConfigError: the file that says so is damaged.
    """
    file = folder / ASKED
    if not os.path.lexists(file):
        return None
    try:
        told = json.loads(text_of(file))
        if not isinstance(told, dict):
            raise ValueError("it does not hold what it should")
        run = all(isinstance(told.get(key), dict) for key in ("choices", "settings", "by"))
        lists = [told.get("words"), told.get("config_dirs", [])]
        sweep = all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in lists)
        if (not run and not sweep) or not isinstance(told.get("cwd"), str):
            raise ValueError("it does not hold what it should")
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError([f"{file} is damaged ({reason}); start the command that made it again, which goes on from what is "
                       f"finished, or remove {folder}"]) from error
    return told


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
    from kdrun.cli.overrides import blocked
    from kdrun.config.composition import group_choices

    known = group_choices()
    chosen = {group: str(told["choices"].get(group, "")) for group in (*GROUPS, *told["choices"])}
    unknown = [f"{folder}: its {group} is '{choice}', and there is no such choice here" + closest(choice, known.get(group, ()))
               for group, choice in chosen.items() if choice not in known.get(group, ())]
    if lines := unknown or blocked(folder):
        raise ConfigError(lines)
    import logging

    from kdrun.sweeps.job import attempt, held, shown
    from kdrun.utils.console import plain_console
    from kdrun.utils.progress import Progress

    logging.basicConfig(filename=folder / "kdrun.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s",
                        force=True)
    screen = Progress(plain_console(stderr=True))
    outputs = folder.parent.parent if folder.parent.name == "runs" else folder  # it may have been moved
    settings = Settings(told["settings"] | {"outputs": str(outputs)}, told["choices"])
    screen.note(f"going on with {shown(folder)}")

    def job() -> list[dict[str, Any]]:
        from kdrun.experiment import run

        with held(folder / ".lock", lambda: screen.note(f"{shown(folder)}: another process is at this run, waiting")):
            return run(settings, screen, folder, other_code)

    status = attempt(folder, job, several=False).status
    if status == 2 and told.get("cwd") != str(Path.cwd()):
        print(f"kdrun: the run was started in {told.get('cwd')}, and its settings may name files from there", file=sys.stderr)
    return status


def resume_sweep(folder: Path, told: Asked, trusted: bool) -> int:
    """Go on with a sweep: its command line again, which does not repeat what is finished."""
    from kdrun.cli import main
    from kdrun.cli import overrides as asking

    options = asking.options_of(told["words"])
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

    return main.hydra_command(words, folder, None if trusted else guard)


def risks(overrides: Sequence[str], folders: Sequence[str]) -> list[str]:
    """What the recorded command line of a sweep has that may run any code, before anything is composed of it.

    Args:
        overrides: its settings.
        folders: of its own configs; those that are given now too are no risk.
    """
    from kdrun.cli import overrides as asking

    mine = {str(path) for path in registry.folders()}
    return [*(f"--config-dir {place} (unless you give that too)" for place in folders if place not in mine),
            *(str(override.input_line) for override in asking.parse(overrides)
              if "_target_" in str(override.input_line) or
              any((name or "").replace("/", ".").partition(".")[0] == "hydra"
                  for name in (override.key_or_group, override.package)))]


def texts(node: Any) -> Iterator[str]:
    """Every text in settings of any depth."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for entry in node.values() if isinstance(node, Mapping) else node:
            yield from texts(entry)


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
