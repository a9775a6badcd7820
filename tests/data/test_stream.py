from dataclasses import replace

import pytest
import torch

from kdrun.data.data import read
from kdrun.data.samples import IGNORED, Samples, Source
from kdrun.data.stream import MemoryStream, Normalise
from kdrun.tasks.classification import Classification
from kdrun.tasks.segmentation import Segmentation
from tests.conftest import pictures_of, settings_of, tiny_source

CPU = torch.device("cpu")
SAME = Normalise([0.0], [1.0])

TASK = Classification((), ())


def distinct(count=20, side=5, channels=1, seed=0) -> Samples:
    """Pictures without two equal windows; no pixel is 0, which is what padding is."""
    draws = torch.Generator().manual_seed(seed)
    return Samples(torch.randint(1, 256, (count, side, side + 1, channels), generator=draws, dtype=torch.uint8),
                    torch.arange(count) % 4)


def stream_of(pictures=None, normalise=SAME, *, batch_size=6, crop=2, flip=True, seed=1) -> MemoryStream:
    return MemoryStream(pictures or distinct(), TASK, normalise, batch_size=batch_size, crop=crop, flip=flip, seed=seed,
                         device=CPU)


def as_pixels(x: torch.Tensor) -> torch.Tensor:
    """Batches [B, C, H, W] of an identical normalisation, back to stored pictures."""
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def windows(picture: torch.Tensor, crop: int, flip: bool) -> dict[tuple[int, int, int], torch.Tensor]:
    """Every (top, left, mirrored) crop of a picture [H, W, C], pixel by pixel."""
    height, width, channels = picture.shape
    found = {}
    for mirrored in range(1 + flip):
        for top in range(2 * crop + 1):
            for left in range(2 * crop + 1):
                window = torch.zeros(height, width, channels, dtype=picture.dtype)
                for row in range(height):
                    for column in range(width):
                        y, x = row + top - crop, column + left - crop
                        if 0 <= y < height and 0 <= x < width:
                            window[row, column] = picture[y, width - 1 - x if mirrored else x]
                found[top, left, mirrored] = window
    return found


# --- the same draws whatever else happens ----------------------------------------------------------------------------

def same(first, second) -> bool:
    return all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.index, b.index)
               and (a.epoch, a.epochs, a.step) == (b.epoch, b.epochs, b.step)
               for a, b in zip(first, second, strict=True))


def test_one_seed_and_epoch_give_the_same_bytes_whatever_is_drawn_between():
    first = list(stream_of().epoch(3, 5))
    other = stream_of()
    list(other.epoch(0, 5))  # another epoch first
    found = []
    for batch in other.epoch(3, 5):
        torch.rand(7)
        torch.manual_seed(9)
        found.append(batch)
    assert same(first, found)


def test_a_stream_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(stream_of().epoch(0, 1))
    assert torch.equal(before, torch.get_rng_state())


def test_two_epochs_at_once_do_not_disturb_each_other():
    stream = stream_of()
    pairs = list(zip(stream.epoch(0, 2), stream.epoch(1, 2), strict=True))
    assert same([first for first, _ in pairs], list(stream.epoch(0, 2)))
    assert same([second for _, second in pairs], list(stream.epoch(1, 2)))


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_an_epoch_resumes_at_any_step(first):
    stream = stream_of()
    assert same(list(stream.epoch(2, 4, first)), list(stream.epoch(2, 4))[first:])


def test_other_seeds_and_other_epochs_give_another_order_and_other_crops():
    one, other_epoch, other_seed = (torch.cat([batch.index for batch in batches]).tolist() for batches in (
        stream_of().epoch(0, 2), stream_of().epoch(1, 2), stream_of(seed=2).epoch(0, 2)))
    assert one != other_epoch
    assert one != other_seed
    whole = [next(iter(stream_of(batch_size=20).epoch(epoch, 2))) for epoch in (0, 1)]
    unshuffled = [batch.x[batch.index.argsort()] for batch in whole]
    assert not torch.equal(*unshuffled)


def test_augmentation_belongs_to_the_sample_not_to_its_place_in_a_batch():
    small = torch.cat([batch.x[batch.index.argsort()] for batch in stream_of(batch_size=20).epoch(1, 2)])
    for batch in stream_of(batch_size=5).epoch(1, 2):
        assert torch.equal(batch.x, small[batch.index])


# --- which samples ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("count", "size", "steps"), [(20, 6, 3), (20, 5, 4), (20, 20, 1), (20, 64, 1), (1, 8, 1)])
def test_every_sample_comes_at_most_once_and_the_short_batch_is_dropped(count, size, steps):
    stream = stream_of(distinct(count), batch_size=size)
    batches = list(stream.epoch(0, 1))
    assert len(batches) == len(stream) == steps
    assert {len(batch) for batch in batches} == {min(size, count)}
    seen = torch.cat([batch.index for batch in batches]).tolist()
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(range(count))
    assert stream.count == count


def test_nobody_is_left_out_for_long():
    stream = stream_of()
    seen = [set(torch.cat([batch.index for batch in stream.epoch(epoch, 9)]).tolist()) for epoch in range(9)]
    assert all(len(epoch) == 18 for epoch in seen)
    assert set.union(*seen) == set(range(20))


def test_labels_and_rows_belong_to_the_pictures():
    pictures = distinct()
    for batch in stream_of(pictures, crop=0, flip=False).epoch(0, 1):
        assert torch.equal(batch.y, pictures.labels[batch.index])
        assert torch.equal(as_pixels(batch.x), pictures.inputs[batch.index])


def test_a_batch_knows_when_it_is():
    assert [(batch.epoch, batch.epochs, batch.step) for batch in stream_of().epoch(4, 7, 1)] == [(4, 7, 1), (4, 7, 2)]


# --- crops and flips -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("crop", "flip"), [(0, False), (0, True), (1, False), (1, True), (2, True)])
def test_crops_and_flips_are_those_of_a_naive_loop(crop, flip, channels):
    pictures = distinct(12, channels=channels)
    stream = stream_of(pictures, Normalise([0.0] * channels, [1.0] * channels), batch_size=12, crop=crop, flip=flip)
    possible = [windows(picture, crop, flip) for picture in pictures.inputs]
    places = set()
    for epoch in range(30):
        (batch,) = stream.epoch(epoch, 30)
        for seen, row in zip(as_pixels(batch.x), batch.index.tolist(), strict=True):
            matches = [place for place, window in possible[row].items() if torch.equal(window, seen)]
            assert len(matches) == 1
            places.add(matches[0])
    assert places == set(possible[0])  # every place and both directions occur


def test_half_of_the_pictures_are_mirrored():
    pictures = distinct(200)
    stream = stream_of(pictures, batch_size=200, crop=0)
    count = 0
    for epoch in range(10):
        (batch,) = stream.epoch(epoch, 10)
        count += sum(not torch.equal(seen, pictures.inputs[row])
                     for seen, row in zip(as_pixels(batch.x), batch.index.tolist(), strict=True))
    assert 900 < count < 1100  # of 2000, more than four standard deviations to each side


def test_padding_is_black_before_normalisation():
    pictures = Samples(torch.full((40, 4, 4, 1), 200, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64))
    (batch,) = stream_of(pictures, Normalise([0.5], [0.25]), batch_size=40, crop=2, flip=False).epoch(0, 1)
    values = sorted({round(value, 4) for value in batch.x.flatten().tolist()})
    assert values == [-2.0, round((200 / 255 - 0.5) / 0.25, 4)]


# --- normalisation ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_measured_normalisation_gives_mean_zero_and_spread_one(kind):
    images = distinct(50, channels=3).inputs
    images = images if kind == torch.uint8 else images.float() / 255
    x = Normalise.measured(images)(images)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert x.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_normalisation_is_measured_over_all_slices():
    images = torch.randint(0, 256, (5000, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[4096:] //= 8  # another spread after the first slice, which is of 2**20 values
    found = Normalise.measured(images)
    wanted = images.double() / 255
    assert found.mean.item() == pytest.approx(wanted.mean().item(), abs=1e-6)
    assert found.std.item() == pytest.approx(wanted.std(correction=0).item(), abs=1e-6)


def test_a_constant_channel_is_only_centred():
    images = torch.full((10, 4, 4, 1), 51, dtype=torch.uint8)
    normalise = Normalise.measured(images)
    assert normalise.std.tolist() == [1]
    assert float(normalise(images).abs().max()) < 1e-6


def test_bytes_and_floats_are_the_same_pictures():
    pictures = distinct(channels=3)
    floats = Samples(pictures.inputs.float() / 255, pictures.labels)
    normalise = Normalise([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    torch.testing.assert_close(torch.tensor(Normalise.measured(floats.inputs).mean.tolist()),
                               torch.tensor(Normalise.measured(pictures.inputs).mean.tolist()))
    pairs = zip(stream_of(pictures, normalise).epoch(0, 1), stream_of(floats, normalise).epoch(0, 1), strict=True)
    for first, second in pairs:
        torch.testing.assert_close(first.x, second.x, atol=1e-5, rtol=0)


def test_normalising_is_the_formula_and_changes_no_picture():
    normalise = Normalise([0.25], [0.5])
    for images, expected in ((torch.tensor([[[[0], [255]]]], dtype=torch.uint8), [-0.5, 1.5]),
                             (torch.tensor([[[[0.0], [1.0]]]]), [-0.5, 1.5])):
        before = images.clone()
        assert normalise(images).flatten().tolist() == pytest.approx(expected)
        assert torch.equal(images, before)


def test_streaming_changes_no_picture():
    pictures = distinct()
    floats = Samples(pictures.inputs.float() / 255, pictures.labels)
    before = floats.inputs.clone()
    stream = stream_of(floats, Normalise([0.5], [0.2]), crop=0, flip=False)
    first, again = list(stream.epoch(0, 1)), list(stream.epoch(0, 1))
    assert same(first, again)
    assert torch.equal(floats.inputs, before)


def test_networks_see_float32_with_the_channels_last_in_memory():
    (batch, *_) = stream_of(distinct(channels=3), Normalise([0.5] * 3, [0.5] * 3)).epoch(0, 1)
    assert batch.x.dtype == torch.float32
    assert batch.x.shape == (6, 3, 5, 6)
    assert batch.x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("crop", "flip"), [(0, False), (2, True)])
def test_masks_move_along_with_their_pictures_and_nothing_around_them_counts(crop, flip):
    pictures = distinct()
    pictures.inputs.clamp_(max=254)
    task = Segmentation(tuple(map(str, range(255))), (1, 5, 6))
    masked = Samples(pictures.inputs, pictures.inputs[..., 0].clone())  # the label of a pixel is its value
    stream = MemoryStream(masked, task, SAME, batch_size=6, crop=crop, flip=flip, seed=1, device=CPU)
    for batch in stream.epoch(2, 3):
        pixels = as_pixels(batch.x)[..., 0]
        assert torch.equal(batch.targets["mask"], torch.where(pixels == 0, IGNORED, pixels.long()))
        assert torch.equal(batch.index, stream.order(2)[batch.step * 6:batch.step * 6 + 6])
        assert len(batch.labels) == int((pixels != 0).sum())


def test_keypoints_do_not_move_along_so_crops_are_refused():
    with pytest.raises(ValueError, match="flip: the labels of landmarks do not move along; give flip=false"):
        read(settings_of(flip=True, crop=0, validation=0.5), points, {})


def points() -> Source:
    """Four pictures, with a keypoint each."""
    samples = Samples(torch.zeros(4, 8, 8, 1), torch.ones(4, 1, dtype=torch.int64), {"points": torch.ones(4, 1, 2)})
    return Source(samples, samples, ("centre",), task="landmarks",
                  info={"heatmap_stride": 2, "sigma": 1.0, "divide_by": "all"})


def test_validation_is_null_where_a_data_set_has_its_own_alone():
    source = replace(tiny_source(), validation=pictures_of(1, 3))
    assert len(read(settings_of(validation=None), lambda: source, {}).validation) == 4
    with pytest.raises(ValueError, match="validation is null, but this data set has no validation samples of its own"):
        read(settings_of(validation=None), tiny_source, {})
