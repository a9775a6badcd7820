"""Pictures in files: found, decoded one at a time, or left in their files until a batch needs them.

Pillow is imported where a picture is opened: most runs open none, and start sooner.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kdrun.data.samples import Samples
from kdrun.data.streamed import Streamed, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "Files", "Loading", "channels_of", "decoded", "eight_bits", "found_in"]

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

    def picture(self, row: int) -> "Image":
        """Decode a file.

        Raises:
            Unreadable: it is not there, or damaged.
        """
        return decoded(self.path(row), self.channels)

    def digest(self, rows: Tensor) -> str:
        """Of names, sizes and times of change: what is in the files would take hours to read."""
        import PIL

        seen = hashlib.sha256(str((self.channels, PIL.__version__)).encode())
        for row in rows.tolist():
            path = self.path(row)
            state = path.stat()
            seen.update(f"{path.relative_to(self.root)} {state.st_size} {state.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return seen.hexdigest()


def decoded(path: Path, channels: int | None = None) -> "Image":
    """The picture of a file, with 8 bits a channel.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for RGB; None for whichever of these it is.

    Raises:
        Unreadable: there is no such file, or it is no whole picture.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=sorted(set(FORMATS.values()))) as opened:
            picture = eight_bits(opened)
            return picture if channels is None else picture.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow raises whatever a damaged file makes it
        raise Unreadable(f"cannot read {path.absolute()}: " + str(error).replace(f" '{path}'", "")) from error


def eight_bits(picture: "Image") -> "Image":
    """A picture as grey or RGB of 8 bits a channel.

    Raises:
        ValueError: it has more than 16.
    """
    from PIL import Image

    if picture.mode[0] not in "IF":
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    found = np.asarray(picture)
    if picture.mode == "F" or found.min() < 0 or found.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8")
    return Image.fromarray((found // 257).astype(np.uint8))  # `convert` would turn all but the darkest white


def found_in(folder: Path, classes: Iterable[str]) -> tuple[list[Path], Tensor]:
    """The pictures in the sub-folders of a folder, at any depth, and their labels [N]."""
    paths, labels = list[Path](), list[int]()
    for label, name in enumerate(classes):
        own = sorted(entry for entry in (folder / name).rglob("*")
                     if entry.suffix.lower() in FORMATS and entry.is_file())  # opening a pipe would wait for ever
        paths += own
        labels += [label] * len(own)
    return paths, torch.tensor(labels, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How pictures in files are held: in memory, or in their files until a batch needs them.

    Attributes:
        size: height and width of all; None takes them as they are, in memory alone.
        resize: the shorter side before the centre is cut out, where pictures are streamed; None for `size`.
        stream: whether they stay in their files; None for where they take more than `memory_gb`, or are augmented by a
            list, which begins with the whole picture.
        workers: processes that read streamed pictures ahead.
        augment: of streamed pictures, by a list; None for the crop and flip of the common settings.
        measured_on: see `Streamed`.
        memory_gb: the most that pictures may take in memory, in GB.
    """

    size: int | None
    resize: int | None
    stream: bool | None
    workers: int
    augment: list[Any] | None
    measured_on: int
    memory_gb: float

    def streams(self, count: int) -> bool:
        """Whether so many pictures stay in their files.

        Raises:
            ValueError: they should, and have no size.
        """
        if self.stream is False and self.augment is not None:
            raise ValueError("augment works on pictures that are streamed; leave stream=false out, or set augment=null")
        streams = self.stream if self.stream is not None else self.augment is not None or (
            self.size is not None and 3 * count * self.size**2 > self.memory_gb * 1e9)
        if streams and self.size is None:
            raise ValueError("streamed pictures are brought to one size; set dataset.size to it")
        if streams and self.resize is not None and self.size is not None and self.resize < self.size:
            raise ValueError(f"resize is {self.resize}, but the centre that is cut out has {self.size} pixels each way; wanted "
                             "at least that, or null")
        return streams

    def samples(self, root: Path, paths: Sequence[Path], labels: Tensor, channels: int) -> Samples:
        """Samples whose pictures stay in their files.

        Args:
            root: a folder that all files are in.
            paths: of the files.
            labels: [N].
            channels: see `Files`.
        """
        assert self.size is not None
        files = Files(root, [str(path.relative_to(root)) for path in paths], channels)
        return Samples(Streamed(files, torch.arange(len(files)), self.size, self.resize, self.workers,  # type: ignore[arg-type]
                                self.measured_on), labels)


def channels_of(paths: Sequence[Path], labels: Tensor) -> int:
    """1 where the first picture of every class is grey, else 3.

    Raises:
        Unreadable: one of them cannot be read.
    """
    firsts = {label: path for path, label in zip(reversed(paths), reversed(labels.tolist()), strict=True)}
    return 1 if all(decoded(path).mode == "L" for path in firsts.values()) else 3
