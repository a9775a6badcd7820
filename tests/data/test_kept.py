import os
from pathlib import Path

import pytest
from PIL import Image

from kdrun.data import latest as module
from kdrun.data.configured import read_dataset

SETTINGS = {"_target_": "kdrun.data.readers.image_folder", "size": None, "test": 0.5, "memory_gb": 1.0, "resize": None,
            "stream": None, "workers": 0, "augment": None, "measured_on": 9, "name": "mine",
            "validation": 0.0, "split_seed": 0, "train_limit": None, "crop": 0, "flip": False, "mean": None, "std": None}


def picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), grey).save(path, compress_level=0)  # as many bytes whatever it shows


@pytest.fixture
def node(tmp_path):
    for kind in ("cat", "dog"):
        for number in range(4):
            picture(tmp_path / kind / f"{number}.png", 40 * number + 10 * (kind == "dog"))
    yield SETTINGS | {"root": str(tmp_path)}
    module._latest = None


def test_the_same_settings_and_files_are_read_once(node):
    assert read_dataset(node) is read_dataset(dict(node))


def test_other_settings_are_other_data(node):
    first = read_dataset(node)
    other = read_dataset(node | {"flip": True})
    assert other.digest != first.digest
    assert read_dataset(node) is not first  # the latest alone is kept
    assert read_dataset(node).digest == first.digest


@pytest.mark.parametrize("deep", [False, True])
def test_a_changed_file_is_seen(node, tmp_path, deep):
    if deep:  # where a setting inside a setting names the folder
        node = node | {"_target_": "kdrun.data.readers.pair", "base": {**node}, "teacher_sees": "picture",
                       "student_sees": "half_resolution", "paired": True}
        for name in ("root", "size", "test", "memory_gb", "resize", "stream", "workers", "augment", "measured_on"):
            del node[name]
    first = read_dataset(node)
    changed = tmp_path / "cat" / "0.png"
    before = changed.stat()
    picture(changed, 255)
    assert changed.stat().st_size == before.st_size
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # within the clock's grain
    assert read_dataset(node).digest != first.digest


def test_a_set_that_changes_while_it_is_read_is_not_kept(node, tmp_path):
    def read():
        picture(tmp_path / "cat" / "new.png", 7)
        return object()

    assert module.kept(node, read) is not None
    assert module._latest is None


def test_a_folder_of_very_many_files_is_read_anew(node, monkeypatch):
    monkeypatch.setattr(module, "MOST", 5)
    assert read_dataset(node) is not read_dataset(node)
