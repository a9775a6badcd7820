import hashlib

import pytest
import torch

from kdrun.data.data import read
from kdrun.data.samples import Samples, Source
from tests.conftest import pictures_of, settings_of, tiny_data, tiny_source


def numbered(counts: list[int], seed: int = 0) -> Samples:
    """Pictures of so many of each class, mixed; the first pixels tell a picture's number."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    images = torch.zeros(len(labels), 4, 4, 1, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = torch.arange(len(labels)) % 256, torch.arange(len(labels)) // 256
    return Samples(images, labels)


def numbers(pictures: Samples) -> list[int]:
    return (pictures.inputs[:, 0, 0, 0].int() + 256 * pictures.inputs[:, 0, 1, 0].int()).tolist()


def counts(pictures: Samples, classes: int) -> list[int]:
    return torch.bincount(pictures.labels, minlength=classes).tolist()


# --- splitting -------------------------------------------------------------------------------------------------------

def test_a_split_is_disjoint_whole_and_stratified():
    whole = numbered([100, 50, 10, 300])
    rest, part = whole.part(0.1, seed=0, classes=4)
    assert counts(part, 4) == [10, 5, 1, 30]
    assert counts(rest, 4) == [90, 45, 9, 270]
    assert set(numbers(rest)).isdisjoint(numbers(part))
    assert sorted(numbers(rest) + numbers(part)) == list(range(460))
    assert numbers(rest) == sorted(numbers(rest))  # in the order of the whole


def test_labels_stay_with_their_pictures():
    whole = numbered([20, 20])
    for piece in whole.part(0.3, seed=4, classes=2):
        assert piece.labels.tolist() == whole.labels[numbers(piece)].tolist()


def test_a_split_is_stable_and_another_seed_gives_another():
    whole = numbered([50, 50])
    torch.manual_seed(1)
    first = numbers(whole.part(0.2, seed=0, classes=2)[1])
    torch.manual_seed(2)
    assert numbers(whole.part(0.2, seed=0, classes=2)[1]) == first
    assert numbers(whole.part(0.2, seed=1, classes=2)[1]) != first


def test_the_split_is_known_to_everyone():
    """The row numbers of one split, as a digest: a change would make results of two versions incomparable."""
    part = numbers(numbered([50, 50]).part(0.2, seed=0, classes=2)[1])
    again = torch.randperm(100, generator=torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(b"split/0").digest()[:8], "big") >> 1)).tolist()
    labels = numbered([50, 50]).labels.tolist()
    expected = [[row for row in again if labels[row] == label][:10] for label in (0, 1)]
    assert part == sorted(expected[0] + expected[1])


def test_no_share_is_no_split():
    rest, part = numbered([5, 5]).part(0.0, seed=0, classes=2)
    assert (len(rest), len(part)) == (10, 0)
    assert part.digest != rest.digest  # an empty part has a digest too


def test_every_class_is_on_both_sides_wherever_it_can_be():
    rest, part = numbered([2, 3, 1]).part(0.01, seed=0, classes=3)
    assert (counts(rest, 3), counts(part, 3)) == ([1, 2, 1], [1, 1, 0])
    rest, part = numbered([2, 3, 1]).part(0.99, seed=0, classes=3)
    assert (counts(rest, 3), counts(part, 3)) == ([1, 1, 1], [1, 2, 0])


def test_the_split_does_not_depend_on_the_runs_seed():
    data = tiny_data()
    device = torch.device("cpu")
    streams = [data.stream(batch_size=96, seed=seed, device=device) for seed in (1, 2)]
    seen = [set(next(iter(stream.epoch(0, 1))).index.tolist()) for stream in streams]
    assert seen[0] == seen[1] == set(range(96))
    assert tiny_data().digest == data.digest


# --- subsets ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("have", "count", "expected"), [
    ([50, 50, 50], 30, [10, 10, 10]), ([50, 50, 50], 31, [11, 10, 10]), ([2, 50, 50], 20, [2, 9, 9]),
    ([3, 3], 6, [3, 3]), ([9, 1, 1], 11, [9, 1, 1]), ([5, 5, 5], 2, [1, 1, 0])])
def test_a_subset_is_as_balanced_as_it_can_be(have, count, expected):
    found = numbered(have).limit(count, seed=0, classes=len(have))
    assert len(found) == count
    assert counts(found, len(have)) == expected
    assert len(set(numbers(found))) == count


def test_a_subset_is_stable_grows_and_differs_between_seeds():
    whole = numbered([50, 50])
    small, large = (numbers(whole.limit(count, seed=0, classes=2)) for count in (20, 40))
    assert numbers(whole.limit(20, seed=0, classes=2)) == small
    assert set(small) < set(large)
    assert numbers(whole.limit(20, seed=1, classes=2)) != small


# --- digests ---------------------------------------------------------------------------------------------------------

def test_a_digest_sees_every_pixel_label_and_shape():
    first = pictures_of(3, 0)
    seen = {first.digest}
    pixel, label = first.inputs.clone(), first.labels.clone()
    pixel[-1, -1, -1, -1] += 1
    label[0] = 3
    for other in (Samples(pixel, first.labels), Samples(first.inputs, label), Samples(first.inputs.float(), first.labels),
                  Samples(first.inputs.reshape(-1, 4, 16, 1), first.labels)):
        seen.add(other.digest)
    assert len(seen) == 5
    assert Samples(first.inputs.clone(), first.labels.clone()).digest == first.digest


def test_a_digest_is_of_the_values_not_of_the_memory():
    first = pictures_of(3, 0, channels=3)
    turned = Samples(first.inputs.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), first.labels)
    assert not turned.inputs.is_contiguous()
    assert turned.digest == first.digest


@pytest.mark.parametrize("change", [
    {"validation": 0.1}, {"split_seed": 1}, {"train_limit": 40}, {"crop": 0}, {"flip": True}, {"mean": [0.5]},
    {"std": [0.5]}])
def test_the_datas_digest_sees_every_setting_that_shapes_training(data, change):
    assert tiny_data(**change).digest != data.digest


def test_the_datas_digest_does_not_see_its_name(data):
    assert tiny_data(name="other").digest == data.digest


# --- reading ---------------------------------------------------------------------------------------------------------

def test_the_tiny_data_is_what_it_says(data):
    assert (len(data.train), len(data.validation), len(data.test)) == (96, 24, 40)
    assert data.shape == (1, 8, 8)
    assert data.classes == ("a", "b", "c", "d")
    assert counts(data.validation, 4) == [6] * 4


def test_plain_batches_are_the_split_in_its_own_order(data):
    found = list(data.plain(data.test, torch.device("cpu"), size=15))
    assert [len(batch) for batch in found] == [15, 15, 10]
    assert torch.equal(torch.cat([batch.labels for batch in found]), data.test.labels)
    assert torch.equal(torch.cat([batch.tensor for batch in found]), data.normalise(data.test.inputs))


def test_reading_plain_batches_changes_no_picture():
    images = torch.rand(6, 4, 4, 1)
    before = images.clone()
    source = Source(Samples(images, torch.arange(6) % 2), Samples(images, torch.arange(6) % 2), ("a", "b"))
    data = read(settings_of(validation=0.0), lambda: source, {})
    first, again = (torch.cat([batch.tensor for batch in data.plain(data.test, torch.device("cpu"))]) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("change", "told"), [
    ({"train_limit": 97}, "train_limit is 97, but there are only 96 training samples"),
    ({"mean": [0.5, 0.5]}, "mean has 2 numbers, but the pictures have 1 channels"),
    ({"std": [0.5, 0.5, 0.5]}, "std has 3 numbers, but the pictures have 1 channels"),
    ({"std": [0.0]}, "std must be above 0"), ({"std": [-1.0]}, "std must be above 0")])
def test_settings_that_do_not_fit_the_pictures_are_told(change, told):
    with pytest.raises(ValueError, match=told) as caught:
        tiny_data(**change)
    assert "\n" not in str(caught.value)


def test_given_means_are_used_and_missing_ones_measured():
    assert tiny_data(mean=[0.25], std=[0.5]).normalise.mean.tolist() == [0.25]
    half_given = tiny_data(mean=[0.25]).normalise
    assert half_given.mean.tolist() == [0.25]
    assert half_given.std.tolist() == tiny_data().normalise.std.tolist()


# --- what is wrong with pictures -------------------------------------------------------------------------------------

def source_with(*, train: dict | None = None, test: dict | None = None, classes=("a", "b", "c", "d")) -> Source:
    good = tiny_source()
    return Source(Samples(**(vars(good.train) | (train or {}))), Samples(**(vars(good.test) | (test or {}))), classes)


def with_nan(number: int) -> torch.Tensor:
    images = torch.rand(120, 8, 8, 1)
    images[:number, 0, 0, 0], images[number, 1, 1, 0] = float("nan"), float("inf")
    return images


LABELS = torch.arange(4).repeat(30)


@pytest.mark.parametrize(("source", "told"), [
    (source_with(train={"labels": LABELS * 0}, test={"labels": LABELS[:40] * 0}, classes=("a",)),
     "1 class of pictures; a classifier needs at least two"),
    (source_with(train={"inputs": torch.zeros(120, 8, 8, dtype=torch.uint8)}),
     "the training pictures have the shape [120, 8, 8]; wanted [N, height, width, channels] with 1 to 4 channels"),
    (source_with(test={"inputs": torch.zeros(40, 3, 8, 8, dtype=torch.uint8)}),
     "the test pictures have the shape [40, 3, 8, 8]; wanted [N, height, width, channels]"),
    (source_with(train={"inputs": torch.zeros(120, 8, 8, 1, dtype=torch.int64)}),
     "the training pictures are torch.int64; wanted uint8 (0 to 255) or float32 (0 to 1)"),
    (source_with(test={"inputs": torch.zeros(40, 8, 8, 1, dtype=torch.float64)}), "the test pictures are torch.float64"),
    (source_with(train={"inputs": with_nan(2)}), "3 of the 120 training pictures hold NaN or infinity"),
    (source_with(train={"labels": LABELS[:-1]}), "120 training pictures, but 119 labels"),
    (source_with(test={"inputs": torch.zeros(0, 8, 8, 1, dtype=torch.uint8), "labels": LABELS[:0]}),
     "there are no test pictures"),
    (source_with(train={"labels": LABELS + 1}), "the training labels run from 1 to 4; wanted 0 to 3"),
    (source_with(test={"labels": torch.arange(40) % 4 - 1}), "the test labels run from -1 to 2; wanted 0 to 3"),
    (source_with(train={"labels": LABELS * 0}), "all training pictures are of one class; there are 4 names"),
    (source_with(train={"labels": LABELS.clamp(max=2)}), "no training picture of class d"),
    (source_with(train={"labels": LABELS.clamp(max=1)}), "no training picture of class c, d"),
    (source_with(classes=tuple("abcdefghijk")), "no training picture of class e, f, g, h, i and 2 more"),
    (source_with(test={"inputs": torch.zeros(40, 9, 8, 1, dtype=torch.uint8)}),
     "training pictures of [8, 8, 1], test pictures of [9, 8, 1] (height, width, channels)"),
])
def test_every_problem_is_found_and_told_in_one_line(source, told):
    (found,) = source.picture_problems()
    assert found.startswith(told)
    assert "\n" not in found
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (what it says is compared below)
        read(settings_of(), lambda: source, {})
    assert str(caught.value) == found


def test_several_problems_are_told_at_once():
    source = source_with(train={"labels": LABELS + 1}, test={"inputs": torch.zeros(40, 8, 8, dtype=torch.uint8)})
    assert len(source.picture_problems()) == 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_good_pictures_have_no_problem(channels):
    assert tiny_source(channels).picture_problems() == []


def test_a_class_may_be_missing_from_the_test_set():
    assert source_with(test={"labels": torch.zeros(40, dtype=torch.int64)}).picture_problems() == []
