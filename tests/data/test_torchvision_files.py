import numpy as np
import pytest
import torch
from PIL import Image

from kdrun.data.streamed import Streamed
from kdrun.data.torchvision_files import names_of, torchvision_files
from kdrun.models.configured import dataset_node
from tests.toy import settings_of

SETTINGS = {"reader": "Imagenette", "download": False, "size": 8, "resize": 10, "stream": True, "workers": 0, "augment": None,
            "measured_on": 9, "memory_gb": 1.0}


def test_a_set_of_files_is_found_through_torchvision(tmp_path):
    from kdrun.utils.vision import datasets

    draws, wnids = np.random.default_rng(0), list(datasets.imagenette.Imagenette._WNID_TO_CLASS)
    for split, count in (("train", 3), ("val", 2)):
        for wnid in wnids:
            folder = tmp_path / "imagenette2" / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draws.integers(0, 256, (12, 14, 3), dtype=np.uint8)).save(folder / f"{number}.JPEG")
    source = torchvision_files(root=str(tmp_path), **SETTINGS)
    assert isinstance(source.train.inputs, Streamed)
    assert source.train.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert source.classes[:2] == ("tench", "English springer")
    assert "20 to test on" in source.found
    memory = torchvision_files(root=str(tmp_path), **SETTINGS | {"stream": False})
    assert torch.equal(torch.cat(list(source.test.inputs.split(7))), memory.test.inputs)
    assert memory.test.inputs.shape == (20, 8, 8, 3)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"Imagenette is not in .*; set dataset.root to its folder, or dataset.download=true"):
        torchvision_files(root=str(tmp_path), **SETTINGS)


def test_every_class_has_a_name_of_its_own():
    assert names_of([("crane",), ("tench", "Tinca"), ("crane",), ("maillot",), ("maillot", "tank suit")]) == (
        "crane (0)", "tench", "crane (2)", "maillot", "maillot, tank suit")


def test_mean_and_std_of_a_pretrained_network_come_from_its_card():
    from kdrun.models.library import statistics_of

    card = {"library": "torchvision", "name": "vit_b_16", "weights": "IMAGENET1K_V1"}
    assert statistics_of(card) == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    for changed, reason in (({"weights": "V9"}, "torchvision has no weights 'V9' of vit_b_16"),
                            ({"weights": None}, "no pretrained weights of torchvision or timm")):
        with pytest.raises(ValueError, match=reason):
            statistics_of(card | changed)
    settings = settings_of("dataset.mean=teacher", "teacher=torchvision", "teacher.weights=DEFAULT")
    assert dataset_node(settings)["mean"] == [0.485, 0.456, 0.406]
    assert dataset_node(settings)["std"] is None
