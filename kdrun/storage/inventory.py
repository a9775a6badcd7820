"""What lies in a store: trained networks, remembered answers, trainings that were not finished; and how to make room."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from kdrun.utils.files import bytes_under, remove
from kdrun.utils.wording import counted

__all__ = ["KINDS", "Entry", "entries", "prune", "shown"]

KINDS = ("networks", "answers", "unfinished")


@dataclass(frozen=True)
class Entry:
    """Something in a store.

    Attributes:
        kind: of `KINDS`.
        path: its folder.
        size: bytes.
        changed: when something in it was last written, in seconds since 1970.
        epochs: how many epochs of answers it has.
    """

    kind: str
    path: Path
    size: int
    changed: float
    epochs: int | None = None

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.path.name


def entries(store: Path, patterns: Sequence[str] = ()) -> list[Entry]:
    """Everything in a store whose name is like one of the patterns ("cifar100-teacher-*"); everything without patterns."""
    answers = store / "answers"
    found = [entry(kind_of(path), path) for path in folders(store) if path != answers]
    found += [entry("answers", path) for path in folders(answers)]
    return [one for one in found if not patterns or any(fnmatch(one.name, pattern) for pattern in patterns)]


def folders(root: Path) -> list[Path]:
    """The folders in a folder."""
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def kind_of(path: Path) -> str:
    """Which kind of entry a folder at the top of a store is: what a job is at, or has left half-done, is no network yet."""
    return "unfinished" if path.suffix == ".unfinished" or ".part-" in path.name else "networks"


def entry(kind: str, path: Path) -> Entry:
    """What is known of a folder."""
    times = [path.stat().st_mtime]
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            times.append(file.stat().st_mtime)
    epochs = len({file.name.rpartition("-")[0] for file in path.glob("epoch-*.safetensors")}) if kind == "answers" else None
    return Entry(kind, path, bytes_under(path), max(times), epochs)


def prune(found: Iterable[Entry], note: Callable[[str], None]) -> int:
    """Delete entries, but none that a job is at. Returns how many bytes that freed."""
    freed = 0
    for one in found:
        locks = [one.path.with_name(one.name.partition(".unfinished")[0].partition(".part-")[0] + ".lock"),
                 *one.path.glob("*.lock")]
        if any(held(lock) for lock in locks):
            note(f"kept {one.name}: a job is at it")
            continue
        with contextlib.suppress(OSError):
            remove(one.path)
        left = bytes_under(one.path) if one.path.is_dir() else 0
        if os.path.lexists(one.path):
            note(f"could not delete all of {one.path}")
        freed += one.size - left
    return freed


def held(lock: Path) -> bool:
    """Whether a job holds a lock; a lock that nobody made is held by nobody."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def shown(found: Sequence[Entry]) -> Group:
    """The entries by kind, the largest first, and what they take together."""
    parts = []
    for kind in KINDS:
        own = sorted((one for one in found if one.kind == kind), key=lambda one: -one.size)
        if not own:
            continue
        table = Table(title=f"{kind}: {megabytes(sum(one.size for one in own))}", title_justify="left", title_style="bold",
                      box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("name", overflow="fold")
        if kind == "answers":
            table.add_column("epochs", justify="right")
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("last written", no_wrap=True)
        for one in own:
            table.add_row(one.name, *([] if one.epochs is None else [str(one.epochs)]), megabytes(one.size),
                          time.strftime("%Y-%m-%d %H:%M", time.localtime(one.changed)))
        parts.append(table)
    return Group(*parts, f"{megabytes(sum(one.size for one in found))} in {counted(len(found), 'entry', 'entries')}")


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:,.1f} MB"
