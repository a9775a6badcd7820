"""The parts of Hydra that are its own and that kdrun needs all the same: all of them, so that a test can watch them.

Hydra has no other way to split a command line into jobs (`BasicSweeper.split_arguments`), to run a job of a sweep in this
process (`BasicLauncher`), or to know its options (`get_args_parser`).
"""

from typing import Any

from hydra._internal.utils import get_args_parser

__all__ = ["basic_launcher", "basic_sweeper", "get_args_parser"]


def basic_launcher() -> Any:
    """Hydra's class; asked for when it is needed, for Hydra loads its plugins anew and knows no class of before."""
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    return BasicLauncher


def basic_sweeper() -> Any:
    """Hydra's class, likewise."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    return BasicSweeper
