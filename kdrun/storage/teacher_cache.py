"""What a frozen network answers to the training batches, stored once so that no further run has to run it.

Order and augmentation are functions of the seed and the epoch, so the answer to the batch of an (epoch, step) is a
constant of the network, the data and the stream. An epoch is a file of each kind of answer, rows in the order of the
steps, in a folder that is named by everything the answers depend on, to the last bit.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kdrun.data.batch import Batch, KeyedStream
from kdrun.models.output import ModelOutput
from kdrun.storage.remembered import KINDS, Remembered
from kdrun.utils import signals
from kdrun.utils.files import bytes_under, regular, remove, write_atomically
from kdrun.utils.names import file_name
from kdrun.utils.wording import counted

__all__ = ["GIGABYTE", "Answers", "digest_of_weights"]

PATIENCE = 300.0  # seconds to wait for an epoch that another job is at, before the network is run for it all the same
GIGABYTE = 1e9
HEADER = 1000  # bytes, at most, that a file has beside its numbers

Run = Callable[[Batch], ModelOutput]


@dataclass
class Tally:
    """What came of remembering in a run.

    Attributes:
        epochs: where the answers of each came from: `store`, `filled` (stored by this run) or `live`.
        sizes: bytes of the files they were read from.
        saved: seconds that running the network took whoever filled the epochs that came from the store.
        seconds: spent in this run to fill.
        reads: everything that the method read.
    """

    epochs: dict[int, str] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    saved: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    reads: set[str] = field(default_factory=set)

    def count(self, source: str) -> int:
        """How many epochs came from there."""
        return sum(came == source for came in self.epochs.values())

    @property
    def saved_seconds(self) -> float:
        """What the epochs from the store would have cost."""
        return sum(seconds for epoch, seconds in self.saved.items() if self.epochs.get(epoch) == "store")

    def __str__(self) -> str:
        if not set(self.epochs.values()) - {"live"}:
            reason = "it was asked about other pictures than the training batches" if not self.epochs else \
                "the method reads its feature maps" if self.reads - set(KINDS) else ""
            return "no answers remembered" + (f", for {reason}" if reason else "")
        parts = [f"{self.count('store')} of {counted(len(self.epochs), 'epoch')} from the store"]
        if filled := self.count("filled"):
            parts.append(f"{filled} filled in {self.seconds:.1f} s")
        if live := self.count("live"):
            parts.append(f"{live} live")
        return (f"answers remembered ({', '.join([*parts, f'{sum(self.sizes.values()) / 1e6:.1f} MB'])})"
                + (f", which saved {self.saved_seconds:.1f} s" if self.saved_seconds else ""))


class Answers:
    """The answers of one frozen network to the batches of a run's stream: read where stored, and stored where not.

    What is kept is what the method reads: when the batch before was answered by logits (and embedding) alone, and the
    epoch at hand is not stored, the network is run over the whole of it at once and every step reads the file. So an
    interrupted run finds each epoch whole or not at all, and a method that reads feature maps costs what it always did.
    Several jobs may want the same answers: each fills epochs that no other is at, those still to come too, and waits
    only when none is left. Whatever goes wrong with the disk is told once, and the network runs.

    Args:
        root: the folder of all answers.
        title: what people call the network.
        label: the start of its folder's name.
        key: everything that the answers depend on, beside the stream.
        half: keep answers in half precision. Then every answer of a batch is rounded, stored or not.
        most: how many bytes all answers may take together.
        ahead: whether the coming epochs of a phase are sure to be asked of this network, so that they may be filled.
        note: told what happens, a line each.
    """

    def __init__(self, root: Path, title: str, label: str, key: Mapping[str, Any], *, half: bool, most: float, ahead: bool,
                 note: Callable[[str], None]) -> None:
        self.root, self.title, self.label, self.key = root, title, label, dict(key)
        self.half, self.most, self.ahead, self.note = half, most, ahead, note
        self.tally = Tally()
        self.stream: KeyedStream | None = None
        self.reads: set[str] = set()  # what was read of the latest answer
        self.opened: dict[str, tuple[int, Stored]] = {}
        self.storing = True
        self.given_up: int | None = None  # an epoch to be run live

    def __call__(self, batch: Batch, run: Run) -> ModelOutput | None:
        """What is known of the answer to a batch; None where the batch is not as the run's stream made it.

        Args:
            batch: which.
            run: the network's answer to any batch.
        """
        origin = batch.original
        if origin is None:
            return None
        self.stream = self.stream or origin.stream
        if origin.stream is not self.stream:
            return None
        wanted = self.reads if self.reads <= set(KINDS) else set()
        self.tally.reads |= self.reads
        self.reads = set()
        recall = partial(self.recall, epoch=origin.epoch, step=origin.step, epochs=batch.epochs, wanted=wanted, run=run)
        return Remembered(recall, partial(self.live, batch, origin.epoch, run), self.reads)

    def live(self, batch: Batch, epoch: int, run: Run) -> ModelOutput:
        """The network's answer, as exact as the stored ones are."""
        self.tally.epochs[epoch] = "live"
        output = run(batch)
        return output.replace(logits=self.rounded(output.logits), embedding=self.rounded(output.embedding))

    def recall(self, kind: str, *, epoch: int, step: int, epochs: int, wanted: set[str], run: Run) -> Tensor | None:
        """The stored answer to a step; None where there is none."""
        stored = self.open(kind, epoch)
        if stored is None and kind in wanted and epoch != self.given_up:
            self.provide(wanted, epoch, epochs, run)
            stored = self.open(kind, epoch)
            self.given_up = epoch if stored is None else None
        if stored is None:
            return None
        return stored.row(step)

    def provide(self, kinds: set[str], epoch: int, epochs: int, run: Run) -> None:
        """Have an epoch stored, by this job or by another that is at it, as far as patience and the disk go."""
        start = time.monotonic()
        while self.storing and self.missing(kinds, epoch) and time.monotonic() - start < PATIENCE:
            if signals.pending():
                return
            if self.fill(kinds, epoch, run):
                continue
            if self.ahead and any(self.fill(kinds, later, run) for later in range(epoch + 1, epochs)):
                continue
            time.sleep(0.05)

    def fill(self, kinds: set[str], epoch: int, run: Run) -> bool:
        """Store an epoch, unless it is there or another job is at it. Returns whether this job was at it."""
        try:
            if not self.storing or not self.missing(kinds, epoch):
                return False
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f"epoch-{epoch:04d}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            try:
                if kinds := self.missing(kinds, epoch):
                    self.write(kinds, epoch, run)
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)  # whoever has it open already can at worst write the same again
                lock.release()
        except (OSError, SafetensorError) as error:
            self.stop(getattr(error, "strerror", None) or str(error))
        return True

    def write(self, kinds: set[str], epoch: int, run: Run) -> None:
        """Run the network over an epoch and store what it answers, if there is room for it."""
        assert self.stream is not None
        start = time.perf_counter()
        found: dict[str, list[Tensor]] = {kind: [] for kind in sorted(kinds)}
        for batch in self.stream.epoch(epoch, epoch + 1):
            if signals.pending():
                return
            output = run(batch)
            for kind, rows in found.items():
                rows.append(self.rounded(getattr(output, kind)))
            if batch.step == 0:
                size = sum(HEADER + len(self.stream) * rows[0].nbytes // (2 if self.half else 1) for rows in found.values())
                if not self.room(size):
                    return
        seconds = time.perf_counter() - start
        stored = {kind: Stored((torch.stack(rows).half() if self.half else torch.stack(rows)).cpu(), rows[0].stride(), seconds)
                  for kind, rows in found.items()}
        with FileLock(self.root / "room.lock", timeout=60):  # so that jobs keep within bounds together
            if not self.room(size):
                return
            for kind, answers in stored.items():
                write_atomically(self.file(kind, epoch), answers.write)
        self.tally.seconds += seconds
        self.tally.epochs[epoch] = "filled"

    def room(self, size: int) -> bool:
        """Whether so many bytes more are within bounds; if not, nothing is stored any more."""
        if bytes_under(self.root) + size <= self.most:
            return True
        self.stop(f"teacher.remember_gb={self.most / GIGABYTE:g} is reached; kdrun store --prune answers makes room")
        return False

    def stop(self, reason: str) -> None:
        """Store nothing any more."""
        self.storing = False
        self.note(f"{self.title}: no further answers are remembered, and it runs where none are ({reason})")

    def open(self, kind: str, epoch: int) -> "Stored | None":
        """The stored answers of an epoch; None where there are none, or where they are damaged."""
        if self.opened.get(kind, (None,))[0] == epoch:
            return self.opened[kind][1]
        file = self.file(kind, epoch)
        if not os.path.lexists(file):
            return None
        assert self.stream is not None
        try:
            stored = Stored.read(regular(file), len(self.stream), self.stream.labels.device)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.note(f"{file.parent.name}/{file.name} in the store is damaged ({reason}); it is dropped")
            remove(file)
            return None
        self.opened[kind] = epoch, stored
        if self.tally.epochs.get(epoch) != "filled":
            self.tally.epochs[epoch] = "store"
        self.tally.sizes[file], self.tally.saved[epoch] = file.stat().st_size, stored.seconds
        return stored

    def description(self) -> dict[str, Any]:
        """What came of it, for the run's record."""
        tally = self.tally
        return {"network": self.title, "folder": self.folder.name if self.stream else None, "half": self.half,
                **{source: tally.count(source) for source in ("store", "filled", "live")},
                "bytes": sum(tally.sizes.values()), "fill_seconds": round(tally.seconds, 3),
                "saved_seconds": round(tally.saved_seconds, 3)}

    def missing(self, kinds: Iterable[str], epoch: int) -> set[str]:
        """Which of these are not stored."""
        return {kind for kind in kinds if not self.file(kind, epoch).exists()}

    def rounded(self, answer: Tensor) -> Tensor:
        """A live answer as it is when it comes back from the store.

        Raises:
            ValueError: half precision cannot hold it.
        """
        if not self.half:
            return answer
        rounded = answer.half()
        if bool((rounded.isinf() & answer.isfinite()).any()):
            raise ValueError(f"teacher.remember=half: the {self.title} answers numbers above 65504, which half precision "
                             "cannot hold; give teacher.remember=true")
        return rounded.float()

    def file(self, kind: str, epoch: int) -> Path:
        """Where an epoch is."""
        return self.folder / f"epoch-{epoch:04d}-{kind}.safetensors"

    @cached_property
    def folder(self) -> Path:
        """Where all epochs of this network and stream are."""
        assert self.stream is not None
        key = {**self.key, "stream": self.stream.identity, "half": self.half}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        return self.root / file_name(self.label, digest[:12])


@dataclass
class Stored:
    """The answers of an epoch, mapped from their file.

    Attributes:
        rows: [steps, B, ...].
        strides: of a step's answer as the network gave it, for the layout may decide the last bits of what is computed.
        seconds: that running the network took.
    """

    rows: Tensor
    strides: tuple[int, ...]
    seconds: float

    @classmethod
    def read(cls, file: Path, steps: int, device: torch.device) -> "Stored":
        """From a file.

        Raises:
            ValueError: it is not what was written.
        """
        with safe_open(file, framework="pt") as opened:
            told, rows = opened.metadata() or {}, opened.get_tensor("rows")
        if len(rows) != steps or digest_of_rows(rows, told["strides"], told["seconds"]) != told["digest"]:
            raise ValueError("it is not what was written")
        return cls(rows.to(device), tuple(json.loads(told["strides"])), float(told["seconds"]))

    def write(self, file: Path) -> None:
        """To a file."""
        told = {"strides": json.dumps(self.strides), "seconds": f"{self.seconds:.3f}"}
        save_file({"rows": self.rows.contiguous()}, file, told | {"digest": digest_of_rows(self.rows, **told)})

    def row(self, step: int) -> Tensor:
        """The answer to a step, in memory of its own, laid out as the network's."""
        row = self.rows[step]
        precise = torch.float32 if row.dtype == torch.float16 else row.dtype
        return torch.empty_strided(row.shape, self.strides, dtype=precise, device=row.device).copy_(row)


def digest_of_rows(rows: Tensor, strides: str, seconds: str) -> str:
    """The SHA-256 of a tensor's numbers, and of all that says how they are to be read.

    Args:
        rows: the numbers; their type and shape count too.
        strides: of an answer, as the file's header tells them.
        seconds: likewise.
    """
    digest = hashlib.sha256(json.dumps([str(rows.dtype), list(rows.shape), strides, seconds]).encode())
    digest.update(rows.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of_weights(network: nn.Module) -> str:
    """The SHA-256 of a network's weights and statistics, by their names."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
