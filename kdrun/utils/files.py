"""Files that appear whole or not at all."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["bytes_under", "digest_of", "files_under", "held", "in_the_way", "regular", "remove", "sweep_up", "sync_folder",
           "text_of", "write_atomically"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, bring it to the disk, and give it its name in one step.

    Raises:
        OSError: naming `path`; what was there before is there still.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:  # a write to a full disk does not say to what, nor does one to a part that nobody knows
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that what was renamed stays renamed when the power fails."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # some file systems have no such thing
            raise
    finally:
        os.close(handle)


def regular(path: Path) -> Path:
    """A path, if it is that of a file and not of a pipe, a device or a folder.

    Raises:
        OSError: it is not.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no regular file")
    return path


def text_of(path: Path) -> str:
    """What a file holds.

    Raises:
        OSError: it cannot be read, or is no regular file: reading a pipe would wait for ever.
        ValueError: it is not UTF-8.
    """
    with regular(path).open(encoding="utf-8", newline="") as file:
        return file.read()


def remove(path: Path) -> None:
    """Remove whatever is there: a file, a folder with all that is in it, or a link and nothing of what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def in_the_way(folders: Iterable[Path], files: Iterable[Path]) -> list[str]:
    """Where something else is than what is going to be written, a line each.

    Args:
        folders: what has to be a folder, if it is there.
        files: what has to be a file, likewise.
    """
    found = [f"{path} is no folder, and kdrun writes into one there; move it or remove it"
             for path in folders if os.path.lexists(path) and not path.is_dir()]
    return found + [f"{path} is no regular file, and kdrun writes one there; move it or remove it"
                    for path in files if os.path.lexists(path) and not path.is_file()]


def sweep_up(folder: Path) -> None:
    """Remove what writers that were killed left half written in a folder that nobody else writes to now."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def held(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold a lock inside; it goes with the process, however that ends.

    Args:
        path: of its file.
        waiting: called once if somebody else holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_under(folder: Path) -> int:
    """How many bytes the files of a folder have, at any depth; files may come and go meanwhile."""
    total = 0
    for path in files_under(folder):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def files_under(folder: Path) -> Iterator[Path]:
    """The files of a folder, at any depth, in the order of their names."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))
