"""The data read last, kept for the next job of the same process: a sweep reads and checks its pictures once."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdrun.data.data import Data
from kdrun.utils.files import files_under

__all__ = ["kept"]

MOST = 200_000  # files whose state is worth asking for; a folder of more takes longer than reading again is worth

_latest: tuple[str, Data] | None = None


def kept(node: Mapping[str, Any], read: Callable[[], Data]) -> Data:
    """What `read` gives, or gave for the same settings while no file that they name has changed.

    Nobody writes into the pictures of a `Data`: whoever needs others makes a new one.

    Args:
        node: the settings of a data set.
        read: reads it.
    """
    global _latest
    seen = state(node)
    if seen is None:
        return read()
    if _latest is None or _latest[0] != seen:
        _latest = None  # before another set comes into memory
        data = read()
        if state(node) == seen:  # neither fetched nor changed meanwhile
            _latest = seen, data
        return data
    return _latest[1]


def state(node: Mapping[str, Any]) -> str | None:
    """The settings, and size and time of every file that they name; None where those are too many, or come and go."""
    files: list[list[Any]] = []
    for root in paths(node):
        for path in (root, *files_under(root)):
            if len(files) == MOST:
                return None
            try:
                told = path.stat()
            except OSError:
                return None
            files.append([str(path), told.st_size, told.st_mtime_ns])
    return json.dumps([node, files], sort_keys=True, default=str)


def paths(node: Any) -> Iterator[Path]:
    """Every file or folder that a setting names, at any depth."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from paths(value)
    elif isinstance(node, str) and node and Path(node).exists():
        yield Path(node)
