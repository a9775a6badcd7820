"""A command line of settings: checked as a whole, then run by Hydra."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra

from kdrun.cli import overrides
from kdrun.cli.folders import look_in
from kdrun.cli.overrides import Guard
from kdrun.config import method_settings, presets, registry, schema
from kdrun.config.registration import register
from kdrun.storage.resume import begin_sweep
from kdrun.sweeps import job as sweeps
from kdrun.sweeps.launchers.base import Task
from kdrun.utils import signals

__all__ = ["hydra_command"]


def hydra_command(words: list[str], sweep: Path | None = None, guard: Guard | None = None) -> int:
    """Check what is asked for as a whole, then let Hydra run it.

    Args:
        words: of the command line.
        sweep: the folder of the sweep that they go on with; None for a new one.
        guard: what may not be in the settings of a job, see `overrides.check`.

    Raises:
        ConfigError: with everything that is wrong.
    """
    words = presets.without_plus(words)
    options = overrides.options_of(words)
    folders = overrides.folders_of(options)
    look_in(folders)
    if options.multirun and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise schema.ConfigError(["torchrun shares one run out to several processes; for the jobs of a sweep leave it out and "
                              "add launch=parallel"])
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise schema.ConfigError([f"there is no config folder {folder}" for folder in missing])
    given = options.overrides
    wanted = presets.expanded(options.overrides, options.multirun)
    register(folders, rows=bool(folders) or any(presets.GROUP in word for word in words))
    wanted = wanted if options.multirun else overrides.settled(wanted, folders)
    common, own = method_settings.parted(wanted)
    words = [*common, *(word for word in words if word not in options.overrides)]  # Hydra wants no mixture
    checked, stopped = [], None
    if not (options.cfg or options.info or options.shell_completion or options.hydra_help):
        checked = overrides.check(wanted, folders, options.multirun, guard)
    if options.multirun and checked:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S") + f"-{time.time_ns() // 1000 % 1_000_000:06d}"
        sweep = sweep or checked[0].outputs / "sweeps" / stamp
        begin_sweep(sweep, given, [options.config_dir] if options.config_dir else [])
        words = [f"hydra.sweep.dir={quoted(sweep)}", *words]
    task = Task(folders, own)
    try:
        with argv(words), task.end:
            hydra.main(version_base="1.3", config_path=str(registry.shipped()), config_name="config")(task)()
    except signals.Interrupted as asked:
        if sweep is None:
            raise
        stopped = asked
    if sweep is not None and not task.reported:
        return sweeps.report(sweep, checked, stopped)
    return task.status


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
