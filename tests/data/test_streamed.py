"""Pictures that stay in their files: the same batches as from memory, whatever the number of workers."""

import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from kdrun.data.data import read
from kdrun.data.readers import image_folder
from kdrun.data.streamed import Streamed, Unreadable
from tests.conftest import settings_of

CPU = torch.device("cpu")
PLAIN = {"size": 8, "test": 0.25, "memory_gb": 1.0, "resize": None, "stream": None, "workers": 0, "augment": None,
         "measured_on": 100}
LIST = [{"random_resized_crop": {"scale": [0.3, 1.0], "ratio": [0.75, 1.3333]}}, {"flip": {"chance": 0.5}},
        {"randaugment": {"operations": 1, "magnitude": 9}}, "trivialaugment",
        {"color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}},
        {"erase": {"chance": 0.5, "scale": [0.1, 0.3], "ratio": [0.5, 2.0]}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 noisy pictures of two classes, as PNG files of several sizes."""
    top, draws = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (top / name).mkdir()
        for number in range(24):
            pixels = draws.integers(0, 256, (9 + number % 3, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(top / name / f"{number:02d}.png")
    return top


def data_of(folder, common=None, **changes):
    return read(settings_of(**{"validation": 0.2, "crop": 1, "flip": True} | (common or {})), image_folder,
                {"root": str(folder), **PLAIN, **changes})


def batches(data, epoch=0, first=0, size=8):
    return list(data.stream(batch_size=size, seed=3, device=CPU).epoch(epoch, 4, first))


def same(one, other):
    return all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(one, other, strict=True))


def test_without_a_list_the_batches_are_those_from_memory_to_the_last_bit(folder):
    memory, files = data_of(folder), data_of(folder, stream=True)
    assert isinstance(files.train.inputs, Streamed)
    assert isinstance(memory.train.inputs, torch.Tensor)
    assert same(batches(memory, 1), batches(files, 1))
    ends = [torch.cat([batch.pictures for batch in data.plain(data.test, CPU, 5)]) for data in (memory, files)]
    assert torch.equal(*ends)


def test_draws_belong_to_seed_epoch_and_sample_whatever_the_workers_and_the_place(folder):
    alone, shared = data_of(folder, augment=LIST), data_of(folder, augment=LIST, workers=2)
    before = torch.get_rng_state()
    whole = batches(alone, 1)
    assert torch.equal(before, torch.get_rng_state())  # where there are no workers the training's own draws stay
    assert same(whole, batches(shared, 1))
    assert same(whole[2:], batches(alone, 1, first=2))
    (one,) = batches(alone, 1, size=100)
    where = {row: number for number, row in enumerate(one.index.tolist())}
    assert all(torch.equal(batch.x[0], one.x[where[int(batch.index[0])]]) for batch in whole)
    assert not torch.equal(whole[0].x, batches(alone, 2)[0].x)
    assert whole[0].pictures.permute(0, 2, 3, 1).is_contiguous()
    other = alone.stream(batch_size=8, seed=3, device=CPU).batch(whole[0].rows, 1, 4, 0, "another")
    assert not torch.equal(other.x, whole[0].x)


def test_size_decides_and_lists_need_files(folder):
    assert isinstance(data_of(folder, memory_gb=1e-6).train.inputs, Streamed)
    assert data_of(folder, memory_gb=1e-6).found.endswith("read from their files by 0 workers")
    with pytest.raises(ValueError, match=r"set dataset.size to it"):
        data_of(folder, stream=True, size=None)
    with pytest.raises(ValueError, match="leave stream=false out"):
        data_of(folder, stream=False, augment=LIST)


@pytest.mark.parametrize(("entry", "reason"), [
    ("flop", r"augment\[0\]: there is no 'flop'; did you mean 'flip'"),
    ({"flip": {"chance": 2}}, r"augment\[0\]: flip.chance: got 2, wanted a number at least 0 and at most 1"),
    ({"flip": {}}, r"augment\[0\]: flip.chance is not set"),
    ({"flip": {"chanse": 0.5}}, r"augment\[0\]: flip has no 'chanse'; did you mean 'chance'"),
    ({"erase": {"chance": 1, "scale": [0.3, 0.1], "ratio": [1, 1]}}, r"augment\[0\]: erase.scale: got \[0.3, 0.1\]"),
    (["flip"], r"augment\[0\]: got \['flip'\], wanted a name")])
def test_an_entry_that_does_not_fit_is_named(folder, entry, reason):
    with pytest.raises(ValueError, match=reason):
        data_of(folder, augment=[entry])


def test_another_list_or_file_is_other_data(folder, tmp_path):
    digests = {data_of(folder, stream=True).digest, data_of(folder, augment=LIST).digest,
               data_of(folder, augment=["trivialaugment"]).digest}
    assert len(digests) == 3
    assert data_of(folder, stream=True, workers=2).digest in digests


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(tmp_path, workers):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    data = data_of(tmp_path, stream=True, workers=workers, measured_on=1, common={"validation": 0.0})
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(Unreadable, match=r"cannot read .*\.png"):
        batches(data, size=2)


def test_a_worker_that_dies_is_named_in_a_line(folder, monkeypatch):
    data = data_of(folder, stream=True, workers=1)

    def die(self, row):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))  # seconds between two looks
    monkeypatch.setattr("kdrun.data.picture_files.Files.picture", die)
    with pytest.raises(RuntimeError, match=r"a worker that reads pictures .*; dataset.workers is 1") as caught:
        batches(data)
    assert "\n" not in str(caught.value)
