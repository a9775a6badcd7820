"""The part of the bench that reads pictures from files: pictures a second beside timm's loader, and peak memory."""

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrun.bench.measure import WARM, Row, median_ratio
from kdrun.bench.processes import child
from kdrun.bench.workload import Subject, random_pictures
from kdrun.data.batch import Batch
from kdrun.data.data import Data, DatasetSettings, read
from kdrun.data.readers import image_folder
from kdrun.utils.memory_limits import STATUS, number_in

__all__ = ["files", "peaks", "streamed", "written"]

SCALE, RATIO = (0.35, 1.0), (0.75, 1.3333)
MOST = 8_000  # pictures that are written
SHARE = 8  # times as many pictures as the small folder has are in the large one

PASS = """
import json, sys
from kdrun.bench.files import peaks
print(json.dumps(peaks(*json.loads(sys.argv[1]))))
"""


def files(subject: Subject, images: Tensor | None) -> Iterator[Row]:
    """Pictures a second that workers read, crop and flip, beside timm's loader; and memory with few and many pictures.

    Args:
        subject: says how large batches are, and how often to measure.
        images: what the files show [N, H, W, C]; None for noise.
    """
    shown = random_pictures(count=subject.samples, side=subject.side).train.inputs if images is None else images
    shown = shown[:min(MOST, subject.samples)]
    large, small = subject.folder / "large", subject.folder / "small"
    written(shown, large)
    written(shown[:len(shown) // SHARE], small)
    side, beside = shown.shape[1], importlib.util.find_spec("timm") is not None
    for workers in (0, 1, 2):
        data = streamed(large, side, workers)
        ways: dict[str, Callable[[int], Iterable[Any]]] = {
            "kdrun": lambda epoch, data=data: batches(data, subject.batch_size, epoch)}  # type: ignore[misc]
        if beside:
            ways["timm"] = timm_loader(large, side, subject.batch_size, workers)
        times: dict[str, list[float]] = {name: [] for name in ways}
        counts: dict[str, int] = {}
        for number in range(WARM + subject.rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                counts[name] = sum(1 for _ in way(number)) * subject.batch_size
                if number >= WARM:
                    times[name].append((time.perf_counter() - start) / counts[name])
        each = {name: statistics.median(found) for name, found in times.items()}
        took = {name: one * subject.batch_size for name, one in each.items()}
        yield Row("files", f"{workers} workers: a batch, {1 / each['kdrun']:,.0f} pictures/s", took["kdrun"],
                  f"timm's loader, {1 / each['timm']:,.0f} pictures/s" if beside else "timm is not installed", took.get("timm"),
                  median_ratio(times["kdrun"], times["timm"]) if beside else None, "x", ("at most", 1.1) if beside else None)
    for workers in (0, 2):
        told: dict[Path, tuple[float, list[float]]] = {}
        for folder in (small, large):
            time_of, printed = child([sys.executable, "-c", PASS, json.dumps([str(folder), side, subject.batch_size, workers])],
                               {"OMP_NUM_THREADS": "1"})
            told[folder] = time_of.wall, json.loads(printed)
        (few, (least, _)), (many, (most, worker)) = told[small], told[large]
        own = f", of a worker {worker:,.0f} MB" if workers else ""
        yield Row("files", f"{workers} workers: peak memory {most:,.0f} MB with {len(shown):,} pictures{own}", many,
                  f"{least:,.0f} MB with {len(shown) // SHARE:,}", few, most / least, "x", ("at most", 1.05))


def written(images: Tensor, folder: Path) -> None:
    """Write pictures [N, H, W, C] as PNG files, in two classes."""
    from PIL import Image

    for name in ("even", "odd"):
        (folder / name).mkdir(parents=True)
    for number, pixels in enumerate(images.numpy()):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.save(folder / ("even", "odd")[number % 2] / f"{number:06d}.png")


def streamed(folder: Path, side: int, workers: int) -> Data:
    """A folder of pictures that stay in their files, cropped and flipped; all but a few are to train on."""
    settings = DatasetSettings(name="files", validation=0.0, split_seed=0, train_limit=None, crop=0, flip=False,
                               mean=[0.5] * 3, std=[0.25] * 3)
    augment = [{"random_resized_crop": {"scale": list(SCALE), "ratio": list(RATIO)}}, {"flip": {"chance": 0.5}}]
    return read(settings, image_folder, {
        "root": str(folder), "size": side, "test": 0.01, "memory_gb": 1.0, "resize": None, "stream": True, "workers": workers,
        "augment": augment, "measured_on": 1})


def batches(data: Data, batch_size: int, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch."""
    return data.stream(batch_size=batch_size, seed=1, device=torch.device("cpu")).epoch(epoch, epoch + 1)


def timm_loader(folder: Path, side: int, batch_size: int, workers: int) -> Callable[[int], Iterable[Any]]:
    """The loader of timm, of the same files, with the same augmentation, as its training script makes it for a CPU."""
    from kdrun.utils import vision

    assert vision  # timm imports torchvision, which has to be made importable first
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(folder), is_training=True), input_size=(3, side, side), batch_size=batch_size,
        is_training=True, use_prefetcher=False, scale=SCALE, ratio=RATIO, hflip=0.5, color_jitter=0.0,
        interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3, num_workers=workers, persistent_workers=False,
        pin_memory=False, device=torch.device("cpu"))
    return lambda epoch: loader


def peaks(folder: str, side: int, batch_size: int, workers: int) -> list[float]:
    """Read a folder once, and tell the most memory that this process and the largest of its workers had, in MB."""
    import resource

    torch.set_num_threads(1)
    for _ in batches(streamed(Path(folder), side, workers), batch_size, 0):
        pass
    # what the system counts for a process begins with the size of the one that started it, but for its own status
    own = number_in(STATUS, "VmHWM") if STATUS.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [own / 1e3, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3]
