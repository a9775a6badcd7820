"""Readers of scenes, and of one's own masks and boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdrun.config import registry
from kdrun.data.annotated import coco_boxes, folder_masks
from kdrun.data.samples import IGNORED, Source
from kdrun.data.scenes import scenes
from kdrun.tasks.base import task_class

COMMON = {"name", "validation", "split_seed", "train_limit", "labelled", "crop", "flip", "mean", "std", "_target_",
          "defaults"}


def made(task: str, **changes) -> Source:
    node = {key: value for key, value in registry.load("dataset", "scenes").items() if key not in COMMON}
    return scenes(**(node | {"task": task, "train": 12, "held_out": 5, "test": 6} | changes))


@pytest.mark.parametrize("task", ["segmentation", "landmarks", "detection"])
def test_scenes_suit_their_task(task):
    source = made(task)
    assert [len(part) for part in (source.train, source.validation, source.test)] == [12, 5, 6]
    kind = task_class(task)(source.classes, (1, 32, 32), source.info)
    assert kind.problems(source) == []
    assert torch.equal(made(task).train.labels, source.train.labels)
    assert not torch.equal(source.train.inputs[:5], source.test.inputs[:5])


def test_landmarks_are_the_centres_of_digits_that_are_there_once():
    marks, boxes = made("landmarks", digits_per_scene=[3, 4]).train, made("detection", digits_per_scene=[3, 4]).train
    assert torch.equal(marks.inputs, boxes.inputs)
    for row in range(12):
        own = boxes.labels[row].tolist()
        for label in range(10):
            assert bool(marks.labels[row, label]) == (own.count(label) == 1)
            if own.count(label) == 1:
                box = boxes.fields["boxes"][row, own.index(label)]
                assert marks.fields["points"][row, label].tolist() == [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]


@pytest.mark.parametrize(("changes", "message"), [({"side": [8, 40]}, "side: digits of 40 pixels do not fit"),
                                                  ({"side": [9]}, r"side: wanted the least and the most"),
                                                  ({"piece": 9}, "piece: cannot be cut from digits of 8 pixels")])
def test_scenes_that_cannot_be_made_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made("segmentation", **changes)


def folder_of(root: Path, part: str = "", count: int = 4) -> None:
    for name in ("images", "masks"):
        (root / part / name).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros((6, 8), np.uint8)
        mask[:2], mask[5] = 1 + number % 2, IGNORED
        Image.fromarray(mask).save(root / part / "masks" / f"{number}.png")
        Image.fromarray(np.full((6, 8, 3), 10 * number, np.uint8)).save(root / part / "images" / f"{number}.jpg")


def masks(root: Path, **changes) -> Source:
    return folder_masks(**({"root": str(root), "classes": None, "size": None, "test": 0.25, "memory_gb": 1,
                            "max_rows": None} | changes))


def test_a_folder_of_pictures_and_masks(tmp_path):
    folder_of(tmp_path)
    source = masks(tmp_path, classes=["ground", "cat", "dog"])
    assert source.classes == ("ground", "cat", "dog")
    assert len(source.train) == 3
    assert source.train.inputs.shape == (3, 6, 8, 3)
    assert source.train.labels.unique().tolist() == [0, 1, 2, IGNORED]
    assert task_class(source.task)(source.classes, (3, 6, 8), source.info).problems(source) == []
    resized = masks(tmp_path, size=4)
    assert resized.classes == ("0", "1", "2")
    assert set(resized.train.labels.unique().tolist()) <= {0, 1, 2, IGNORED}  # to the nearest pixel: no class in between


def test_a_folder_with_a_test_set_of_its_own(tmp_path):
    folder_of(tmp_path, "train")
    folder_of(tmp_path, "val", 2)
    source = masks(tmp_path)
    assert (len(source.train), len(source.test), source.validation) == (4, 2, None)


def test_a_folder_that_is_not_one_of_masks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        masks(tmp_path / "missing")
    with pytest.raises(ValueError, match="wanted images/ and masks/"):
        masks(tmp_path)
    folder_of(tmp_path)
    with pytest.raises(ValueError, match=r"classes names 2 classes, but the masks .* have the number 2"):
        masks(tmp_path, classes=["ground", "cat"])
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1 picture of .* without a mask .* the first is 1"):
        masks(tmp_path)
    Image.new("RGB", (8, 6)).save(tmp_path / "masks" / "1.png")
    with pytest.raises(ValueError, match="its mode is RGB"):
        masks(tmp_path)
    Image.new("L", (8, 7)).save(tmp_path / "masks" / "1.png")
    with pytest.raises(ValueError, match="is 8x6, its mask 8x7"):
        masks(tmp_path)


def coco_of(root: Path, **changes) -> dict[str, object]:
    (root / "pictures").mkdir(exist_ok=True)
    for number in range(3):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(root / "pictures" / f"{number}.png")
    whole = {"images": [{"id": number, "file_name": f"{number}.png"} for number in range(3)],
             "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
             "annotations": [{"image_id": 0, "category_id": 7, "bbox": [2, 4, 8, 6]},
                             {"image_id": 0, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 0},
                             {"image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 1},
                             {"image_id": 2, "category_id": 3, "bbox": [10, 0, 10, 10]}]}
    (root / "train.json").write_text(json.dumps(whole | changes))
    return {"images": str(root / "pictures"), "train": str(root / "train.json"), "val": None, "size": 10,
            "test": str(root / "train.json"), "test_share": 0.3, "memory_gb": 1, "stride": 2, "min_radius": 1}


def test_boxes_of_coco_move_with_the_pictures(tmp_path):
    source = coco_boxes(**coco_of(tmp_path))
    assert source.classes == ("cat", "dog")                                      # by number
    assert source.train.inputs.shape == (3, 10, 10, 3)                           # 20x10 becomes 10x5 above black
    assert source.train.labels.tolist() == [[1, 0], [-1, -1], [0, -1]]           # a crowd is no box
    assert source.train.fields["boxes"][0, 0].tolist() == [1.0, 2.0, 5.0, 5.0]
    assert source.train.fields["boxes"][2, 0].tolist() == [5.0, 0.0, 10.0, 5.0]
    assert source.train.inputs[2, 0, 0, 0] == 2
    assert not source.train.inputs[2, 5:].any()
    assert task_class(source.task)(source.classes, (3, 10, 10), source.info).problems(source) == []
    apart = coco_boxes(**(coco_of(tmp_path) | {"test": None}))
    assert (len(apart.train), len(apart.test)) == (2, 1)


@pytest.mark.parametrize(("changes", "message"), [
    ({"images": []}, "annotation of picture 0"),
    ({"annotations": [{"image_id": 0, "category_id": 7}]}, "not in the format of COCO .*bbox"),
    ({"annotations": [{"image_id": 0, "category_id": 9, "bbox": [0, 0, 1, 1]}]}, "category 9, which it does not list"),
    ({"images": [{"id": number, "file_name": "../train.json"} for number in range(3)]}, "no such picture"),
])
def test_files_that_are_not_as_in_coco_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        coco_boxes(**coco_of(tmp_path, **changes))
