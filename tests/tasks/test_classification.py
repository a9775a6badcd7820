"""Classification of what is no picture: texts as token ids, sequences of frames."""

import pytest
import torch

from kdrun.data.data import read
from kdrun.data.samples import Samples, Source
from kdrun.models.factory import NetworkSpec
from kdrun.tasks.classification import Classification
from tests.conftest import settings_of


def texts(**changes) -> Source:
    """Twelve texts of two classes: which of two tokens is more frequent."""
    ids = torch.tensor([[1, 3, 3, 4, 0], [1, 4, 4, 0, 0], [1, 3, 0, 0, 0]]).repeat(4, 1)
    part = Samples(ids, torch.tensor([0, 1, 0]).repeat(4), {"lengths": (ids > 0).sum(dim=1)})
    info = {"inputs": "tokens", "vocabulary": 5, "length": 5}
    return Source(**({"train": part, "test": part, "classes": ("three", "four"), "info": info} | changes))


def test_batches_are_sequences_and_networks_are_told_their_sizes():
    data = read(settings_of(crop=0, validation=0.0), texts, {})
    batch = next(data.plain(data.test, torch.device("cpu")))
    assert batch.x.values.tolist()[:2] == [[1, 3, 3, 4, 0], [1, 4, 4, 0, 0]]
    assert batch.x.lengths.tolist() == [4, 3, 2] * 4
    assert batch.labels.tolist() == [0, 1, 0] * 4
    asked = data.task.given()
    assert {key: asked[key] for key in ("classes", "vocabulary", "length", "per_place")} == {
        "classes": 2, "vocabulary": 5, "length": 5, "per_place": False}
    assert data.task.example(3).values.shape == (3, 5)


def test_frames_are_a_third_kind():
    task = Classification(("a", "b"), (7, 3), {"inputs": "frames"})
    assert (task.inputs, task.given()["features"]) == ("frames", 3)
    assert task.example(2).values.shape == (2, 7, 3)


def test_a_network_for_pictures_is_refused_with_those_that_would_do():
    data = read(settings_of(crop=0), texts, {})
    with pytest.raises(ValueError, match=r"it sees pictures and is no network for classification of tokens; .*transformer"):
        NetworkSpec("cnn", {"_target_": "kdrun.models.plain.CNN", "widths": [4]}).build(data)


@pytest.mark.parametrize(("source", "words"), [
    (texts(info={"inputs": "tokens", "vocabulary": 4}), "from 0 to 4; expected int64 from 0 to 3"),
    (texts(classes=("three",)), "1 class of samples"),
    (texts(classes=("three", "four", "five")), "no training sample of class five"),
    (texts(train=Samples(torch.ones(2, 5, dtype=torch.int64), torch.tensor([0, 1]))), "have no lengths"),
], ids=["vocabulary", "one class", "empty class", "no lengths"])
def test_texts_that_are_unfit_are_refused(source, words):
    with pytest.raises(ValueError, match=words):
        read(settings_of(crop=0), lambda: source, {})


def test_pictures_augmentations_are_refused():
    with pytest.raises(ValueError, match="crop is for pictures, and this data set has tokens; give crop=0"):
        read(settings_of(crop=1), texts, {})
