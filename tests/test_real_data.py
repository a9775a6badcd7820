"""The main job on real data, from the command line; `KDRUN_DATA` names the folder of the official files."""

import os
from pathlib import Path

import pandas
import pytest
from PIL import Image

from tests.forks import kdrun

ROOT = os.environ.get("KDRUN_DATA", "")
FILES = {"cifar100": "cifar-100-python", "fashion_mnist": "FashionMNIST/raw"}
SHORT = ("recipe=standard", "recipe.epochs=2", "recipe.lr=0.1", "recipe.schedule=cosine", "dataset.validation=0.02",
         "threads=1")


def needs(dataset: str) -> pytest.MarkDecorator:
    """Skips where the data set is not at hand, and says what would do."""
    found = bool(ROOT) and (Path(ROOT) / FILES[dataset]).is_dir()
    reason = f"{FILES[dataset]} is not in {ROOT}" if ROOT else f"KDRUN_DATA names no folder with {FILES[dataset]}"
    return pytest.mark.skipif(not found, reason=reason)


def run(folder: Path, *words: str) -> pandas.DataFrame:
    """The rows of a run, by role."""
    done = kdrun([f"outputs={folder}/out", *SHORT, *words], folder)
    assert done.status == 0, done.err[-2000:]
    (made,) = (folder / "out" / "runs").iterdir()
    return pandas.read_csv(made / "results.csv").set_index("role")


@pytest.mark.slow
@needs("cifar100")
def test_a_student_learns_real_cifar100(tmp_path):
    rows = run(tmp_path, "dataset=cifar100", "dataset.train_limit=2000", "teacher=resnet14", "student=resnet8", "method=kd")
    assert rows.loc["student", "parameters"] == 77754 + 2 * 16 * 9 + 90 * 65  # the digits' and 2 more channels, 90 more classes
    # 100 classes: chance is 1 %, and two epochs of 40 pictures a class lift all three well above it
    assert rows["accuracy"].min() > 0.025
    assert rows["top5"].min() > 0.1
    # it learns from the teacher: closer to it than the network that never saw it
    assert rows.loc["student", "agreement"] > 0.05


@pytest.mark.slow
@needs("fashion_mnist")
def test_a_student_learns_real_fashion_mnist(tmp_path):
    rows = run(tmp_path, "dataset=fashion_mnist", "dataset.train_limit=2000", "teacher=resnet14", "student=resnet8",
               "method=rkd")
    assert rows["accuracy"].min() > 0.4


@pytest.mark.slow
def test_a_student_learns_from_a_folder_of_pictures(tmp_path):
    for split, each in (("train", 60), ("test", 20)):
        for number, colour in enumerate(("red", "green", "blue")):
            place = tmp_path / "pictures" / split / colour
            place.mkdir(parents=True)
            for picture in range(each):
                shade = [40 + picture % 7 * 9] * 3
                shade[number] += 60
                Image.new("RGB", (20, 16), tuple(shade)).save(place / f"{picture}.png")
    rows = run(tmp_path, "dataset=image_folder", f"dataset.root={tmp_path}/pictures", "dataset.size=16",
               "teacher=resnet14", "student=resnet8", "method=kd", "recipe.epochs=4", "recipe.batch_size=16")
    assert rows["accuracy"].min() > 0.6
