"""What a command line asks for: each of its jobs composed, and everything that is wrong with any of them."""

import argparse
import contextlib
import difflib
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from kdrun.config import method_settings, registry, validation
from kdrun.config.composition import Composed, composed, group_choices, without_code
from kdrun.config.constraints import closest
from kdrun.config.hydra_internals import get_args_parser
from kdrun.config.identity import run_folder
from kdrun.config.instantiation import instantiate
from kdrun.config.schema import ConfigError, Settings
from kdrun.storage.resume import CHECKPOINTS, RUN_FILES
from kdrun.utils.files import in_the_way

__all__ = ["Guard", "check", "folders_of", "options_of", "settled"]

# A run's place is named by its content, so that a sweep started again finds what is finished
OWN = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.chdir", "hydra.job.name")

Guard = Callable[[Settings], Sequence[str]]  # from a job's settings to a line for everything that may not be

NOT_OURS = ("--config-path", "--config-name", "--experimental-rerun")


def options_of(words: Sequence[str]) -> argparse.Namespace:
    """The words as Hydra takes them: its options, and the settings as `overrides`.

    Raises:
        ConfigError: an option that there is not, or that lacks its value.
    """
    parser = get_args_parser()
    known = [option for action in parser._actions for option in action.option_strings
             if option.startswith("--") and option not in NOT_OURS]

    def refuse(message: str) -> NoReturn:
        _, _, unknown = message.partition("unrecognized arguments: ")
        raise ConfigError([f"unknown option '{word}'" + (closest(word, known) or f"; there is {', '.join(known)}")
                       for word in unknown.split()] or [message])

    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(list(words))
    if options.config_path or options.config_name or options.experimental_rerun:
        raise ConfigError([f"{', '.join(NOT_OURS)} are not for kdrun; add your own configs by --config-dir DIR"])
    return options


def folders_of(options: argparse.Namespace) -> list[Path]:
    """The user's own config folders, as Hydra takes them from its options and from `hydra.searchpath`.

    Raises:
        ConfigError: a setting cannot be read.
    """
    found = [options.config_dir] if options.config_dir else []
    for override in parse(options.overrides):
        if override.key_or_group == "hydra.searchpath" and isinstance(value := override.value(), list):
            found += [str(entry).removeprefix("file://") for entry in value]
    return [Path(folder).absolute() for folder in found]


def check(overrides: Sequence[str], folders: Sequence[Path], several: bool,
          guard: Guard | None = None) -> list[Settings]:
    """Compose every job that is asked for, and find everything that is wrong with any of them.

    Args:
        overrides: the settings of the command line.
        folders: of the user's own configs.
        several: whether it is a sweep.
        guard: what may not be, asked before anything is imported that a job's settings name; None for nothing.

    Raises:
        ConfigError: with a line for each problem.
    """
    parsed = parse(overrides)
    sweeping = [override for override in parsed if override.is_sweep_override()]
    if sweeping and not several:
        raise ConfigError([f"{override.input_line} names several values; add -m to run them all, or quote the value if it is "
                       f"one: \"{override.key_or_group}='...'\"" for override in sweeping])
    if places := [override.input_line for override in sweeping
                  if override.key_or_group.partition(".")[0] in validation.CONDUCT]:
        raise ConfigError([f"{line}: a sweep has one choice of this for all its jobs" for line in places])
    own_sweeper = any(override.key_or_group == "hydra/sweeper" for override in parsed)
    searches = [override for override in parsed if override.key_or_group == "sweep" and override.value() != "grid"]
    if searches and not several:
        raise ConfigError([f"{searches[-1].input_line} chooses what runs of a sweep to do; add -m"])
    search = searchpath(folders)
    found: dict[str, list[int]] = {}
    checked = []
    with initialize_config_dir(str(registry.shipped()), version_base="1.3", job_name="kdrun"):
        for override in parsed:
            override.config_loader = GlobalHydra.instance().config_loader()  # glob(*) asks it for the choices
        jobs = [list(overrides)]
        if searches:
            from kdrun.sweeps.search import space

            wanted = space.read(parsed, lambda words: method_of(words, search))
            jobs = [[*wanted.aside, *words] for words in wanted.probes()]
        elif several and not own_sweeper:
            parsed = [*of_sweeper(parsed, search), *parsed]  # a key of the command line stands, as in Hydra's own sweeper
            jobs = method_settings.jobs(parsed, lambda words: method_of(words, search))
        made = [composed(words, search) for words in jobs]
        if any(one.problems for one in made):
            tell_slips(made, jobs)
        for number, one in enumerate(made):
            settings, lines = examine(one, guard)
            for line in lines:
                found.setdefault(line, []).append(number)
            if settings is not None:
                checked.append(settings)
                if not several and not lines and instantiate(settings.node("launch"), "launcher").together:
                    found["launch: it places the jobs of a sweep, and this is one run; add -m or leave it out"] = [number]
        if searches and not found:
            instantiate(checked[0].node("sweep"), "search").space(checked[0], parsed)
    if found:
        raise ConfigError(as_told(found, jobs))
    if lines := unwritable(checked[0].outputs) or [line for folder in dict.fromkeys(map(run_folder_of, checked))
                                                   for line in blocked(folder)]:
        raise ConfigError(lines)
    return checked


def settled(overrides: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The settings of a single run as Hydra takes them: `method.kd.temperature` as `method.temperature`.

    Raises:
        ConfigError: a setting is of another method than the run's.
    """
    common, own = method_settings.parted(overrides)
    if not own:
        return list(overrides)
    with initialize_config_dir(str(registry.shipped()), version_base="1.3", job_name="kdrun"):
        method = method_of(common, searchpath(folders))
    if lines := method_settings.of_other_methods(own, [method]):
        raise ConfigError(lines)
    return method_settings.settled(overrides, method)


def method_of(words: Sequence[str], search: Sequence[str]) -> str:
    """The method of a job with these words."""
    if (method := method_settings.chosen(words)) is not None:
        return method
    with contextlib.suppress(Exception):  # what cannot be composed is told of where the job is examined
        return str(compose("config", [*words, *search], return_hydra_config=True).hydra.runtime.choices["method"])
    return ""


def searchpath(folders: Sequence[Path]) -> list[str]:
    """The word that makes Hydra look for configs in these folders too."""
    return [f"hydra.searchpath=[{','.join('file://' + str(folder) for folder in folders)}]"] if folders else []


def of_sweeper(parsed: Sequence[Override], search: Sequence[str]) -> list[Override]:
    """What the configuration itself sweeps over: `hydra.sweeper.params` of an experiment, or of the user's own config."""
    words = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    try:
        cfg = compose("config", [*words, *search], return_hydra_config=True)
    except Exception:  # each job is composed again and told of
        return []
    params = cfg.hydra.sweeper.get("params") or {}
    found = parse([f"{key}={value}" for key, value in params.items()])
    for override in found:
        override.config_loader = GlobalHydra.instance().config_loader()
    return found


def parse(overrides: Sequence[str]) -> list[Override]:
    """Read the settings by Hydra's grammar.

    Raises:
        ConfigError: naming each word that is no setting.
    """
    parser, parsed, found = OverridesParser.create(), [], []
    for word in overrides:
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            reason = str(error).splitlines()[0].partition(" expecting {")[0]
            found.append(f"'{word}' is not a setting; a setting is KEY=VALUE" if "missing EQUAL" in reason else
                         f"cannot read '{word}' ({reason}); quote a value with special characters: \"KEY='VALUE'\"")
            continue
        if not override.key_or_group:
            found.append(f"'{word}' names no key; a setting is KEY=VALUE")
        elif override.key_or_group in OWN:
            found.append(f"{override.key_or_group} is kdrun's own; set outputs=FOLDER, where runs/ and sweeps/ are")
        parsed.append(override)
    if found:
        raise ConfigError(found)
    return parsed


def where(own: Collection[int], jobs: Sequence[Sequence[str]]) -> str:
    """Which jobs of a sweep a problem is of, where it is not of all."""
    if len(own) == len(jobs):
        return ""
    shared = set.intersection(*map(set, jobs))
    first, *others = (", ".join(word for word in jobs[number] if word not in shared) for number in own)
    return f" (job {first}" + (f" and {len(others)} more)" if others else ")")


def alone(line: str, own: Collection[int], jobs: Sequence[Sequence[str]]) -> str:
    """How to give a setting to those methods alone that have it, where it is unknown to others."""
    key = line.partition("'")[2].partition("'")[0]
    lacking = {method_settings.chosen(jobs[number]) for number in own}
    having = next((method for job in jobs if (method := method_settings.chosen(job)) not in lacking), None)
    return f"; method.{having}.{key}=... sets it for {having} alone" if having and line.startswith(
        f"unknown key '{key}' in method") else ""


def examine(job: Composed, guard: Guard | None = None) -> tuple[Settings | None, list[str]]:
    """A job's settings, as far as they could be composed, and a line for everything that is wrong with them."""
    if job.cfg is None:
        return None, job.problems
    settings, unset = Settings.partial(job.cfg, job.cfg.hydra.runtime.choices)
    if guard is not None and (unwanted := guard(settings)):
        return None, list(unwanted)
    return settings, [*job.problems, *unset, *validation.problems(settings)]


def tell_slips(made: Sequence[Composed], jobs: Sequence[Sequence[str]]) -> None:
    """Tell of wrong words at once where nothing else can be wrong that only kdrun's code could tell.

    Raises:
        ConfigError: with a line for each.
    """
    found: dict[str, list[int]] = {}
    for number, one in enumerate(made):
        if (more := without_code(one.words)) is None:
            return
        for line in (*one.problems, *more):
            found.setdefault(line, []).append(number)
    raise ConfigError(as_told(found, jobs))


def as_told(found: Mapping[str, list[int]], jobs: Sequence[Sequence[str]]) -> list[str]:
    """The problems of a sweep's jobs, each with the jobs that it is of."""
    return [line + where(own, jobs) + alone(line, own, jobs) for line, own in found.items()]


def hint_at_choice(word: str) -> str:
    """For a word that is a choice of some group: the setting it may stand for."""
    for group, known in group_choices().items():
        if word in known:
            return f"; did you mean {group}={word}?"
    return ""


def unwritable(folder: Path) -> list[str]:
    """What is wrong with a folder to write to."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"outputs: cannot make {folder}, {place} is not a folder"]
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".kdrun-"):  # permissions alone do not tell
            return []
    except OSError as error:
        return [f"outputs: cannot write to {place} ({error.strerror})"]


def run_folder_of(settings: Settings) -> Path:
    """The folder of a run.

    Raises:
        ConfigError: what was chosen cannot be in its name.
    """
    try:
        return run_folder(settings)
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def blocked(folder: Path) -> list[str]:
    """What is in the way of a run that writes to this folder and to the store beside, a line each."""
    outputs = folder.parent.parent
    return in_the_way([outputs / "runs", outputs / "store", outputs / "sweeps", folder, folder / CHECKPOINTS],
                      [folder / name for name in RUN_FILES])


def near_command(name: str, commands: Collection[str]) -> str:
    """What an unknown sub-command may have been meant to be."""
    near = difflib.get_close_matches(name, commands, n=1)
    return f"; did you mean '{near[0]}'?" if near else hint_at_choice(name) or (
        f"; there is {', '.join(commands)}; a setting is KEY=VALUE")
