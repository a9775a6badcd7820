"""Checkpoints: a state on the disk that is whole, proven to be what was written, and read without running anything in it."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdrun.utils.files import write_atomically

__all__ = ["previous", "read", "write"]

MARK = b"\nsha256 "  # torch reads over what follows its own end, so `torch.load` still takes the file
TAIL = len(MARK) + 64


def previous(path: Path) -> Path:
    """Where the checkpoint before the present one is."""
    return path.with_suffix(f".previous{path.suffix}")


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain containers with its digest, and keep the one before.

    Raises:
        OSError: the disk is full, or cannot be written to; the one before is there still.
    """
    buffer = io.BytesIO()  # torch's own writing to a full disk fails without saying why
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
    buffer.write(MARK + digest)
    if path.exists():
        path.replace(previous(path))
    write_atomically(path, lambda part: part.write_bytes(buffer.getbuffer()))


def read(path: Path, device: torch.device, note: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest whole checkpoint, the one before where that is damaged, or None.

    Args:
        path: of the newest.
        device: where its tensors go.
        note: told of damage, a line each.
    """
    for number, (file, otherwise) in enumerate(((path, "going on from the one before"),
                                                (previous(path), "its phase starts anew"))):
        if not file.exists():
            continue
        try:
            content = file.read_bytes()
            state, tail = memoryview(content)[:-TAIL], content[-TAIL:]
            if tail != MARK + hashlib.sha256(state).hexdigest().encode():
                raise ValueError("its digest is not that of what it holds")
            return torch.load(io.BytesIO(state), map_location=device, weights_only=True)
        except Exception as error:  # whatever a damaged file makes the readers raise
            if number == 0 and not previous(path).exists():
                otherwise = "its phase starts anew"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            note(f"the checkpoint {file} is damaged ({reason}); {otherwise}")
    return None
