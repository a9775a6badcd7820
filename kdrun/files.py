"""Files that appear whole or not at all."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["bytes_under", "digest_of", "files_under", "held", "sweep_up", "sync_folder", "write_atomically"]


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
    with path.open("rb") as file:
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
