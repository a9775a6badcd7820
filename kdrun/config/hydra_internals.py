"""The parts of Hydra that are its own and that kdrun needs all the same: all of them, so that a test can watch them.

Hydra has no other way to split a command line into jobs (`BasicSweeper.split_arguments`), to run a job of a sweep in this
process (`BasicLauncher`), or to know its options (`get_args_parser`).
"""

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser

__all__ = ["BasicLauncher", "BasicSweeper", "get_args_parser"]
