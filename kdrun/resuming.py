"""What an unfinished run needs to go on: what was asked for, and by which code it was begun."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from kdrun import __version__, catalogue
from kdrun.config import Refused, Settings
from kdrun.files import sweep_up, write_atomically

__all__ = ["ASKED", "CHECKPOINTS", "OtherCode", "begin", "begin_sweep", "resume"]

ASKED = "asked.json"  # beside run.json, which is there when a run is done
CHECKPOINTS = "checkpoints"
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
        Refused: there are some, and that is what to do; or the settings name code that lies in no file.
    """
    import torch

    now = {"kdrun": __version__, "torch": torch.__version__, "device": device, "code": code_of(settings.values)}
    sweep_up(folder)
    before = asked_in(folder)
    checkpoints = folder / CHECKPOINTS
    if checkpoints.exists() and before is not None and (changed := differences(before["by"], now)):
        if other_code == "refuse":
            raise Refused([f"{folder}: what made its checkpoints has changed since ({changed}), so the end would not be that "
                           "of a run in one go; `kdrun resume --anyway` goes on from them all the same, and the command "
                           "that began it begins anew"])
        if other_code == "mix":
            note(f"going on from checkpoints that something else made ({changed}); the end is not that of a run in one go")
        else:
            note(f"beginning anew, for what made the checkpoints has changed since ({changed}); `kdrun resume --anyway` would "
                 "have gone on from them")
            shutil.rmtree(checkpoints)
    told = {"choices": settings.choices, "settings": settings.values, "by": now, "cwd": str(Path.cwd()),
            "began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_atomically(folder / ASKED, lambda path: path.write_text(json.dumps(told, indent=1, default=str)))


def code_of(values: Mapping[str, Any]) -> str:
    """A digest of the code that a run is made by: the loop, and all that its settings name by `_target_` or as a network.

    Raises:
        Refused: something that they name lies in no file.
    """
    from kdrun.fingerprint import CAST, LOOP, fingerprint

    groups = [values.get(group) for group in ("dataset", "teacher", "student", "method", "scheme")]
    known = catalogue.options("model")
    named = sorted({text for text in texts([groups[3:], values.get("teachers")]) if text in known})  # assistants, boosters, ...
    networks = [catalogue.network(name) for name in named]
    try:
        code = fingerprint(*LOOP, *CAST, *sorted(set(targets([groups, networks]))))
    except ValueError as error:
        raise Refused([str(error)]) from error
    return hashlib.sha256(json.dumps([code, networks], sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What has changed between two descriptions of what a run is made by; empty for nothing."""
    changed = [key for key in CODE if before.get(key) != now[key]]
    if changed == ["code"] or not changed:
        return CODE["code"] if changed else ""
    return ", ".join(f"{CODE[key].format(before.get(key))}, now {now[key]}" for key in changed if key != "code")


def begin_sweep(sweep: Path, words: Sequence[str]) -> None:
    """Keep in a sweep's folder what was asked for."""
    told = {"words": list(words), "cwd": str(Path.cwd())}
    write_atomically(sweep / ASKED, lambda path: path.write_text(json.dumps(told, indent=1)))


def asked_in(folder: Path) -> Asked | None:
    """What was asked for in the folder of a run or a sweep; None where nothing was.

    Raises:
        Refused: the file that says so is damaged.
    """
    file = folder / ASKED
    if not file.exists():
        return None
    try:
        told = json.loads(file.read_text())
        run = all(isinstance(told.get(key), dict) for key in ("choices", "settings", "by"))
        if not run and not all(isinstance(word, str) for word in told["words"]):
            raise ValueError("it does not hold what it should")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused([f"{file} is damaged ({str(error).splitlines()[0]}); start the command that made it again, which goes "
                       f"on from what is finished, or remove {folder}"]) from error
    return told


def resume(folder: Path, trusted: bool = False, other_code: OtherCode = "refuse") -> int:
    """Go on with the run or the sweep of a folder; returns the exit status.

    Args:
        folder: of the run or the sweep.
        trusted: whether its settings may name any code to be run.
        other_code: what becomes of checkpoints that other code made.

    Raises:
        Refused: it cannot be gone on with; nothing was trained.
    """
    folder = folder.absolute()
    if (told := asked_in(folder)) is None:
        if (folder / "run.json").is_file():
            print(f"{folder} is finished")
            return 0
        raise Refused([f"{folder} is not there" if not folder.exists() else
                       f"{folder} is not the folder of a run or a sweep: it has no {ASKED}; wanted one of those in runs/ or "
                       "sweeps/ of your outputs"])
    return resume_sweep(folder, told, trusted) if "words" in told else resume_run(folder, told, trusted, other_code)


def resume_run(folder: Path, told: Asked, trusted: bool, other_code: OtherCode) -> int:
    """Go on with a run."""
    if (folder / "run.json").is_file() and not (folder / CHECKPOINTS).exists():
        print(f"{folder} is finished")
        return 0
    if not trusted and (unknown := strangers(told["settings"], catalogue.folders())):
        raise Refused([f"{folder}: its settings name {target}, which no config here does and which may be any code; add the "
                       "configs that do by --config-dir DIR or, if the folder is your own, --trust" for target in unknown])
    names = [told["settings"].get(group, {}).get("name") for group in ("dataset", "teacher", "student")]
    if not trusted and (odd := [name for name in names if not isinstance(name, str) or Path(name).name != name]):
        raise Refused([f"{folder}: its settings name a file elsewhere ('{name}'); if you know who made the folder, add --trust"
                       for name in odd])
    import logging

    from kdrun.console import plain_console
    from kdrun.sweep import attempt, held, shown
    from kdrun.terminal import Screen

    logging.basicConfig(filename=folder / "kdrun.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s",
                        force=True)
    screen = Screen(plain_console(stderr=True))
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
    from kdrun import cli

    words = told["words"]
    mine = {str(path) for path in catalogue.folders()}
    risky = [word for word in words if "_target_" in word or word.lstrip("+~").startswith("hydra")]
    risky += [str(path) for path in cli.config_dirs(words) if str(path) not in mine]
    if risky and not trusted:
        raise Refused([f"{folder}: its command line has {word}, which may run any code; if you know who made the folder, add "
                       "--trust" for word in risky])
    if told["cwd"] != str(Path.cwd()):
        raise Refused([f"{folder}: this sweep was started in {told['cwd']}, and its settings may name files from there; go on "
                       "with it there"])
    return cli.hydra_command(words, folder)


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in settings of any depth."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from targets(value)
    elif isinstance(node, list | tuple):
        for entry in node:
            yield from targets(entry)


def texts(node: Any) -> Iterator[str]:
    """Every text in settings of any depth."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for entry in node.values() if isinstance(node, Mapping) else node:
            yield from texts(entry)


def strangers(values: Mapping[str, Any], folders: Collection[Path]) -> list[str]:
    """What settings out of a file would call that no config in these folders names: it may be anything."""
    known = {target for folder in folders for path in sorted(folder.rglob("*.yaml"))
             for target in targets(yaml.safe_load(path.read_text()))}
    return sorted(set(targets(values)) - known)
