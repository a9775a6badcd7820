"""What many tests share: tiny data that can be learned, tiny networks, a short recipe, a silent screen."""

import signal
from pathlib import Path

import pytest
import torch

from kdrun.config import registry
from kdrun.config.dataset import DatasetSettings
from kdrun.config.recipe import Recipe
from kdrun.data.data import Data, read
from kdrun.data.samples import Samples, Source
from kdrun.evaluation import result_tables
from kdrun.models.factory import NetworkFactory, NetworkSpec
from kdrun.utils.progress import Progress

torch.set_num_threads(1)  # the machine is shared, and no test is large
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored, and tests raise it
result_tables.LATENCY_SECONDS = 0.002  # no test is about how fast this machine is


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs and kills come first, so that at the end no core waits long for another one."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


CLASSES = 4
TINY_STUDENT = NetworkSpec("tiny", {"_target_": "kdrun.models.plain.CNN", "widths": [4, 8, 8]})
TINY_TEACHER = NetworkSpec("small", {"_target_": "kdrun.models.plain.CNN", "widths": [8, 8, 16]})


def settings_of(**changes) -> DatasetSettings:
    """Settings of a data set, without augmentation or subsampling unless they are asked for."""
    plain = {"name": "tiny", "validation": 0.2, "split_seed": 0, "train_limit": None, "crop": 1, "flip": False,
             "mean": None, "std": None}
    return DatasetSettings(**(plain | changes))


def pictures_of(each: int, seed: int, *, classes: int = CLASSES, side: int = 8, channels: int = 1) -> Samples:
    """`each` noisy pictures of every class; a class is a bright quarter of the picture, so that it can be learned."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    images = torch.randint(0, 120, (len(labels), side, side, channels), generator=draws, dtype=torch.uint8)
    half = side // 2
    for row, label in enumerate(labels.tolist()):
        top, left = divmod(label % 4, 2)
        images[row, top * half:(top + 1) * half, left * half:(left + 1) * half] += 100
    return Samples(images, labels)


def tiny_source(channels: int = 1) -> Source:
    """4 classes of 8x8 pictures: 120 to train on (24 of them become the validation split), 40 to test."""
    return Source(pictures_of(30, 1, channels=channels), pictures_of(10, 2, channels=channels), ("a", "b", "c", "d"))


def tiny_data(channels: int = 1, **changes) -> Data:
    """The tiny source, read: 96 pictures to train on, 24 for validation, 40 to test."""
    return read(settings_of(**changes), tiny_source, {"channels": channels})


def tiny_networks(data: Data, *, student: NetworkSpec = TINY_STUDENT,
                  teachers: tuple[NetworkSpec, ...] = (TINY_TEACHER,), seed: int = 1) -> NetworkFactory:
    """Tiny networks; teachers are not trained."""
    return NetworkFactory(student, list(teachers), data, seed, torch.device("cpu"), None, None)


def tiny_recipe(**changes) -> Recipe:
    """The standard recipe, two epochs long."""
    short = {"epochs": 2, "init_epochs": 1, "batch_size": 16}
    return Recipe(**(registry.load("recipe", "standard") | short | changes))


@pytest.fixture(scope="session")
def data() -> Data:
    """The tiny data; nobody may change it."""
    return tiny_data()


@pytest.fixture
def factory(data):
    """Tiny networks on the tiny data: `networks()`, `networks(seed=2)`, `networks(teachers=(spec, spec))`."""
    return lambda **changes: tiny_networks(data, **changes)


@pytest.fixture
def screen() -> Progress:
    """Nobody watches."""
    return Progress(None)
