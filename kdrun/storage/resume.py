"""What an unfinished run needs to go on: what was asked for, and by which code it was begun."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kdrun import __version__
from kdrun.config import registry
from kdrun.config.older import upgraded
from kdrun.config.schema import ConfigError, Settings
from kdrun.config.targets import targets
from kdrun.utils.files import remove, sweep_up, text_of, write_atomically

__all__ = ["ASKED", "CHECKPOINTS", "OtherCode", "asked_in", "begin", "begin_sweep"]

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
    from kdrun.storage.fingerprint import CAST, LOOP, fingerprint  # with torch

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
        told["settings"] = upgraded(told.get("settings"))
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


def texts(node: Any) -> Iterator[str]:
    """Every text in settings of any depth."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for entry in node.values() if isinstance(node, Mapping) else node:
            yield from texts(entry)
