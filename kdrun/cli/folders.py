"""The user's own config folders on a command line."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kdrun.config import registry

__all__ = ["look_in", "typed_folders"]


def typed_folders(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The user's own config folders, from --config-dir or -cd in full, and the other words.

    Where Hydra is not asked and would take too long to import: for sub-commands, which have no abbreviations, for help and
    for completion. What Hydra runs, `overrides.folders_of` reads by its parser.
    """
    found, rest = [], []
    coming = iter(words)
    for word in coming:
        option, equals, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            found.append(value if equals else next(coming, ""))
        else:
            rest.append(word)
    return [Path(folder).absolute() for folder in found if folder], rest


def look_in(folders: Sequence[Path]) -> None:
    """Find configs and Python files in the user's own folders too."""
    sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]
    registry.use(folders)
