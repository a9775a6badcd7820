"""Pictures that are not held in memory: read, decoded and augmented by worker processes when a batch needs them."""

import contextlib
import hashlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdrun.utils.seeding import generator, seed_of

if TYPE_CHECKING:  # Pillow and what needs it: most runs have all pictures in memory, and start without
    from PIL.Image import Image

    from kdrun.data.augment import Augmentation

__all__ = ["Store", "Stored", "Streamed", "Unreadable", "in_memory"]


class Unreadable(ValueError):
    """A picture's file is damaged, gone, or no picture."""


class Store(Protocol):
    """Pictures by number, each of a size of its own."""

    channels: int

    def __len__(self) -> int: ...

    def picture(self, row: int) -> "Image":
        """One picture: grey (`channels` is 1) or RGB (3).

        Raises:
            Unreadable: it cannot be had.
        """
        ...

    def digest(self, rows: Tensor) -> str:
        """Of these pictures: another one where any of them was changed."""
        ...


class Stored:
    """Pictures of a tensor [N, H, W, C] in memory, for augmentations that take one picture at a time.

    Args:
        images: uint8, of 1 or 3 channels.
    """

    def __init__(self, images: Tensor) -> None:
        self.images, self.channels = images, images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, row: int) -> "Image":
        """One of them."""
        from PIL import Image

        found = self.images[row].numpy()
        return Image.fromarray(found[..., 0] if self.channels == 1 else found)

    def digest(self, rows: Tensor) -> str:
        """Of every pixel."""
        return hashlib.sha256(self.images[rows].contiguous().numpy().data).hexdigest()


@dataclass(frozen=True)
class Read(Dataset[Tensor]):
    """What a worker does: from rows to a batch of pictures. One object serves one pass over the data.

    Attributes:
        pictures: where they come from, and their size.
        augmentation: of each; None for none.
        key: with its row, what the random draws of a sample depend on, so that neither the number of workers nor what
            was read before matters.
    """

    pictures: "Streamed"
    augmentation: "Augmentation | None"
    key: tuple[object, ...]

    def __getitems__(self, rows: list[int]) -> Tensor | Unreadable:
        """Pictures [B, H, W, C]; or why one of them cannot be read, for an error that is raised here comes with a traceback."""
        before = torch.default_generator.get_state()  # where there are no workers this is the training's own process
        try:
            return torch.stack([self.one(row) for row in rows])
        except Unreadable as error:
            return error
        finally:
            torch.default_generator.set_state(before)

    def one(self, row: int) -> Tensor:
        """One of them, [H, W, C]."""
        from kdrun.data.augment import pixels, resized  # for start-up time, as above

        picture = self.pictures.store.picture(row)
        if self.augmentation is None:
            return pixels(resized(picture, self.pictures.size, self.pictures.resize))
        torch.default_generator.manual_seed(seed_of(*self.key, row))  # `torch.manual_seed` would reseed GPUs too
        return self.augmentation(picture)


@dataclass(frozen=True)
class Streamed:
    """Pictures [N, H, W, C] outside of memory, in the place of a tensor of pictures: with a shape, indexed by rows, split.

    Attributes:
        store: where they are.
        rows: which of them [N], in this order.
        size: height and width of all.
        resize: the shorter side before the centre is cut out; None for `size`.
        workers: processes that read ahead; 0 reads in this one when a batch is asked for.
        measured_on: of so many pictures, drawn once, the mean and the spread of a channel are measured.
    """

    store: Store
    rows: Tensor
    size: int
    resize: int | None
    workers: int
    measured_on: int

    dtype: ClassVar[torch.dtype] = torch.uint8
    ndim: ClassVar[int] = 4

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """[N, H, W, C]."""
        return torch.Size((len(self.rows), self.size, self.size, self.store.channels))

    def __getitem__(self, rows: "Tensor | slice") -> "Streamed":
        return replace(self, rows=self.rows[rows])

    def to(self, device: torch.device) -> "Streamed":
        """The same: pictures go to a device when they are read."""
        return self

    def is_floating_point(self) -> bool:
        """Never."""
        return False

    def sample(self) -> Tensor:
        """Some pictures in memory [M, H, W, C], to measure: drawn once, or all where there are no more or they are there."""
        if isinstance(self.store, Stored):
            return self.store.images[self.rows]
        order = torch.randperm(len(self), generator=generator("measured"))[:self.measured_on]
        return torch.cat(list(self[order.sort().values].split(256)))

    @property
    def digest(self) -> str:
        """Of the pictures, and of how they are brought to their size."""
        parts = [self.store.digest(self.rows), self.size, self.resize, self.measured_on]
        return hashlib.sha256(str(parts).encode()).hexdigest()

    def split(self, size: int) -> Iterator[Tensor]:
        """All pictures in their order, `size` at a time, without augmentation: [B, H, W, C] on the CPU."""
        return self.batches(torch.arange(len(self)).split(size))

    def batches(self, steps: Sequence[Tensor], augmentation: "Augmentation | None" = None, key: tuple[object, ...] = ()
                ) -> Iterator[Tensor]:
        """The pictures of each step, read ahead by the workers.

        Args:
            steps: the rows of each, counted within these pictures.
            augmentation: of each picture; None for none.
            key: see `Read`.

        Raises:
            Unreadable: naming the first file that cannot be read.
            RuntimeError: a worker died.
        """
        if not steps:
            return
        workers = min(self.workers, len(steps) - 1)  # none for a single batch
        loader: DataLoader[Any] = DataLoader(
            Read(self, augmentation, key), batch_sampler=[self.rows[rows].tolist() for rows in map(Tensor.cpu, steps)],
            num_workers=workers, collate_fn=as_it_is, worker_init_fn=ignore_interrupts,
            generator=torch.Generator())  # else it draws a seed from the one that dropout draws from
        with deaths_reported_here():
            coming = iter(loader)
        while True:
            try:
                found = next(coming, None)
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise RuntimeError(f"{reason_of(error)}; dataset.workers is {workers}, and each takes memory: the same "
                                   "command goes on, with dataset.workers=0 without any") from error
            if isinstance(found, Unreadable):
                raise found
            if found is None:
                return
            yield found


def in_memory(inputs: Tensor) -> Tensor:
    """All inputs of a split as a tensor, for what changes them as a whole."""
    return torch.cat(list(inputs.split(256))) if isinstance(inputs, Streamed) else inputs


def as_it_is(batch: Any) -> Any:
    """A batch comes ready from its worker."""
    return batch


def ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of a terminal, and the first alone decides what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def reason_of(error: RuntimeError) -> str:
    """What torch says of a dead worker, in a line."""
    return str(error).splitlines()[0].strip().rstrip(".").replace("DataLoader worker", "a worker that reads pictures")


@contextlib.contextmanager
def deaths_reported_here() -> Iterator[None]:
    """Keep torch from raising, amid whatever the main thread does just then, that a worker died: the next batch tells."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
