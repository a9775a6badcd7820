"""The command line: a bare first word is a sub-command, everything else is Hydra's."""

import contextlib
import difflib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdrun import __version__, catalogue

__all__ = ["main"]

REFUSED, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kdrun; returns the exit status: 0 done, 1 failed on the way, 2 refused before anything was trained."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Hydra's own way of reporting hides the reason behind advice on its flags: take the exception, tell the reason
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.path += [folder for folder in (os.getcwd(), *map(str, config_dirs(words))) if folder not in sys.path]
    catalogue.use(config_dirs(words))
    if words[:1] == ["--version"]:
        print(f"kdrun {__version__}")
        return 0
    if {"-h", "--help"} & set(words):
        from kdrun import listing

        print(listing.help_text(words))
        return 0
    if words and is_word(words[0]):
        return sub_command(words)
    try:
        return hydra_command(words)
    except KeyboardInterrupt:
        complain(["interrupted; the same command goes on where it stopped"])
        return INTERRUPTED
    except Exception as error:
        lines = reasons(error)
        if lines is None:
            raise
        complain(lines)
        return REFUSED


def is_word(argument: str) -> bool:
    """Whether an argument is a bare word: no setting, no option, no deletion."""
    return "=" not in argument and argument[:1] not in ("-", "+", "~")


def complain(lines: Sequence[str]) -> None:
    """Each on a line of its own, on standard error."""
    for line in lines:
        print(f"kdrun: {line}", file=sys.stderr)


def config_dirs(words: Sequence[str]) -> list[Path]:
    """The user's own config folders, from --config-dir and hydra.searchpath."""
    found = []
    for place, word in enumerate(words):
        if word in ("--config-dir", "-cd") and place + 1 < len(words):
            found.append(words[place + 1])
        elif word.startswith("--config-dir="):
            found.append(word.partition("=")[2])
        elif word.startswith("hydra.searchpath="):
            found += [entry.strip(" '\"").removeprefix("file://") for entry in word.partition("=")[2].strip("[]").split(",")]
    return [Path(folder).absolute() for folder in found]


def sub_command(words: Sequence[str]) -> int:
    """Run a sub-command."""
    from kdrun import listing

    commands = {"list": listing.main}
    name, *rest = words
    if name not in commands:
        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; there is {', '.join(commands)}; a setting is KEY=VALUE"
        complain([f"unknown sub-command '{name}'{hint}"])
        return REFUSED
    return commands[name](rest)


def hydra_command(words: list[str]) -> int:
    """Check what is asked for as a whole, then let Hydra run it.

    Raises:
        Refused: with everything that is wrong.
    """
    import hydra

    from kdrun import config

    folders = config_dirs(words)
    for folder in folders:
        if not folder.is_dir():
            raise config.Refused([f"there is no config folder {folder}"])
    config.register(folders)
    several = any(word in ("-m", "--multirun") for word in words)
    if any(word.startswith(("-h", "--h", "-c", "--cfg", "-i", "--info", "-sc", "--shell", "-p", "--pac", "--resolve"))
           and not word.startswith("--config-dir") and word != "-cd" for word in words):
        checked = None  # nothing is going to run
    else:
        checked = check(overrides_of(words), folders, several)
    sweep = None
    if several and checked and not any(word.startswith("hydra.sweep.dir=") for word in words):
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S") + f"-{time.time_ns() // 1000 % 1_000_000:06d}"
        sweep = checked[0].outputs / "sweeps" / stamp
        words = [*words, f"hydra.sweep.dir={quoted(sweep)}"]
    with argv(words):
        hydra.main(version_base="1.3", config_path=str(catalogue.shipped()), config_name="config")(job)()
    if sweep is not None:
        from kdrun import sweep as sweeps

        return sweeps.report(sweep, checked or [])
    return job.status  # type: ignore[attr-defined]


def job(cfg: Any) -> float | None:
    """One run, as Hydra calls it; a sweep's objective is the validation score."""
    from kdrun import sweep

    status, score = sweep.work(cfg)
    job.status = status  # type: ignore[attr-defined]
    return score


job.status = 0  # type: ignore[attr-defined]


@contextlib.contextmanager
def argv(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads its arguments from sys.argv alone."""
    before = sys.argv
    sys.argv = ["kdrun", *words]
    try:
        yield
    finally:
        sys.argv = before


def quoted(path: Path) -> str:
    """A path as Hydra's grammar takes it."""
    return "'" + str(path).replace("'", "\\'") + "'"


def overrides_of(words: Sequence[str]) -> list[str]:
    """The words that are settings."""
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"):
            skip = True
        elif not word.startswith("-"):
            found.append(word)
    return found


def check(overrides: list[str], folders: Sequence[Path], several: bool) -> list[Any]:
    """Compose every job that is asked for, and find everything that is wrong with any of them.

    Returns:
        The `Settings` of each job.

    Raises:
        Refused: with a line for each problem.
    """
    from hydra import compose, initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from kdrun import config

    parsed = OverridesParser.create().parse_overrides(overrides)
    sweeping = [override.input_line for override in parsed if override.is_sweep_override()]
    if sweeping and not several:
        raise config.Refused([f"{line} names several values; add -m to run them all" for line in sweeping])
    own_sweeper = any(override.key_or_group in ("hydra/sweeper", "sweep") for override in parsed)
    jobs = [overrides] if own_sweeper or not several else BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    search = [f"hydra.searchpath=[{','.join('file://' + str(folder) for folder in folders)}]"] if folders else []
    found: dict[str, None] = {}
    checked = []
    with initialize_config_dir(str(catalogue.shipped()), version_base="1.3", job_name="kdrun"):
        for words in jobs:
            good, wrong = misspelt(words, search, compose)
            found.update(dict.fromkeys(wrong))
            try:
                cfg = compose("config", [*good, *search], return_hydra_config=True)
                settings = config.Settings.read(cfg, cfg.hydra.runtime.choices)
                checked.append(settings)
                found.update(dict.fromkeys(config.problems(settings)))
            except Exception as error:
                lines = reasons(error)
                if lines is None:
                    raise
                found.update(dict.fromkeys(lines if not wrong else []))
    if not found:
        found.update(dict.fromkeys(unwritable(checked[0].outputs)))
    if found:
        raise config.Refused(list(found))
    return checked


def misspelt(words: Sequence[str], search: Sequence[str], compose: Any) -> tuple[list[str], list[str]]:
    """Tell the settings that there are from those that there are not: (good ones, a line for each other one)."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    from kdrun.bounds import closest

    good, wrong, settings = [], [], []
    groups = [*group_choices()]
    for override in OverridesParser.create().parse_overrides(list(words)):
        group, line = override.key_or_group, override.input_line
        assert line is not None
        if group in groups and not override.is_delete() and isinstance(override.value(), str):
            known = group_choices()[group]
            if override.value() in known:
                good.append(line)
            else:
                near = closest(override.value(), known) or f"; there is {', '.join(known)}"
                wrong.append(f"unknown {group} '{override.value()}'{near}")
        elif override.is_delete() or override.is_add() or group.startswith(("hydra", "method/base")):
            good.append(line)
        else:
            settings.append((group, line))
    try:
        cfg = compose("config", [*good, *search], return_hydra_config=True)
    except Exception:
        return [*good, *(line for _, line in settings)], wrong
    for key, line in settings:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        known = [str(name) for name in node if name != "hydra"] if OmegaConf.is_dict(node) else None
        if known is None:
            wrong.append(f"unknown key '{key}': there is no group '{parent}'" + closest(parent, groups))
        elif last in known:
            good.append(line)
        else:
            where = f" in {parent}" if parent else ""
            wrong.append(f"unknown key '{last}'{where}" + (closest(last, known) or f"; it has {', '.join(known)}"))
    return good, wrong


def group_choices() -> dict[str, list[str]]:
    """The groups of the command line and their choices."""
    names = {group: list(catalogue.options(group)) for group in ("dataset", "method", "scheme", "recipe", "launch",
                                                                 "experiment")}
    return {**names, "teacher": list(catalogue.options("model")), "student": list(catalogue.options("model"))}


def unwritable(folder: Path) -> list[str]:
    """What is wrong with a folder to write to."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"outputs: cannot make {folder}, {place} is not a folder"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"outputs: cannot write to {place}"]
    return []


def reasons(error: BaseException) -> list[str] | None:
    """What to tell of an error that is the user's to mend; None for any other."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from kdrun.config import Refused

    if isinstance(error, Refused):
        return error.problems
    if isinstance(error, YAMLError):
        return ["a config file is not YAML: " + " ".join(str(error).split())]
    if isinstance(error, HydraException | OmegaConfBaseException):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return [" ".join(lines[:2])]
    return None


if __name__ == "__main__":
    sys.exit(main())
