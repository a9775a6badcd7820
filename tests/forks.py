"""kdrun in forks of the tests' own process: processes of their own, as a user's are, without the seconds of importing."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from kdrun.cli import main
from tests.stress.child import Ending, forked


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Workers of a sweep are forked, too; users' are spawned, as tests/sweeps/test_launch.py does where that matters."""
    forks = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
    with mock.patch("kdrun.sweeps.launchers.workers.multiprocessing", forks):
        yield


def kdrun(words: list[str], folder: Path, *, spawned: bool = False) -> Ending:
    """Run it as a person does in this folder.

    Args:
        words: of the command line.
        folder: its working folder.
        spawned: whether the workers of a sweep are what users have.
    """
    def typed() -> int:
        with contextlib.nullcontext() if spawned else forked_workers():
            return main.main(words)

    return forked(typed, folder, limit=600)
