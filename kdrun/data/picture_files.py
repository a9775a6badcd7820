"""Pictures in files, decoded one at a time, and pictures of a tensor that are handed out one at a time too."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from torch import Tensor

from kdrun.data.streamed import Unreadable

__all__ = ["FORMATS", "Files", "Stored", "decoded", "eight_bits"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".ppm": "PPM", ".pgm": "PPM",
           ".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF"}
"""What pictures may be, by their names' endings. Whatever else Pillow reads, it does by other programs or rarely used code."""



class Files:
    """Pictures in files. Their names are kept as one text, which takes little memory and is shared by all workers.

    Args:
        root: the folder that all of them are in.
        names: of the files, from there.
        channels: 1 reads all pictures as grey, 3 as RGB.
    """

    def __init__(self, root: Path, names: Sequence[str], channels: int) -> None:
        self.root, self.channels = root, channels
        encoded = [name.encode(errors="surrogateescape") for name in names]
        self.text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self.ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def path(self, row: int) -> Path:
        """Where a picture is."""
        return self.root / self.text[self.ends[row]:self.ends[row + 1]].tobytes().decode(errors="surrogateescape")

    def picture(self, row: int) -> Image.Image:
        """Decode a file.

        Raises:
            Unreadable: it is not there, or damaged.
        """
        return decoded(self.path(row), self.channels)

    def digest(self, rows: Tensor) -> str:
        """Of names, sizes and times of change: what is in the files would take hours to read."""
        seen = hashlib.sha256(str((self.channels, PIL.__version__)).encode())
        for row in rows.tolist():
            path = self.path(row)
            state = path.stat()
            seen.update(f"{path.relative_to(self.root)} {state.st_size} {state.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return seen.hexdigest()


class Stored:
    """Pictures of a tensor [N, H, W, C] in memory, for augmentations that take one picture at a time.

    Args:
        images: uint8, of 1 or 3 channels.
    """

    def __init__(self, images: Tensor) -> None:
        self.images, self.channels = images, images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, row: int) -> Image.Image:
        """One of them."""
        found = self.images[row].numpy()
        return Image.fromarray(found[..., 0] if self.channels == 1 else found)

    def digest(self, rows: Tensor) -> str:
        """Of every pixel."""
        return hashlib.sha256(self.images[rows].contiguous().numpy().data).hexdigest()


def decoded(path: Path, channels: int | None = None) -> Image.Image:
    """The picture of a file, with 8 bits a channel.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for RGB; None for whichever of these it is.

    Raises:
        Unreadable: there is no such file, or it is no whole picture.
    """
    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as opened:
            picture = eight_bits(opened)
            return picture if channels is None else picture.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow raises whatever a damaged file makes it
        raise Unreadable(f"cannot read {path.absolute()}: " + str(error).replace(f" '{path}'", "")) from error


def eight_bits(picture: Image.Image) -> Image.Image:
    """A picture as grey or RGB of 8 bits a channel.

    Raises:
        ValueError: it has more than 16.
    """
    if picture.mode[0] not in "IF":
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    found = np.asarray(picture)
    if picture.mode == "F" or found.min() < 0 or found.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8")
    return Image.fromarray((found // 257).astype(np.uint8))  # `convert` would turn all but the darkest white
