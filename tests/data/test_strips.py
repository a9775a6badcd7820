from typing import Literal

import pytest
import torch

from kdrun.data.samples import Source
from kdrun.data.strips import GAP, Strips, compose, digit_strips
from kdrun.tasks.base import task_class

IMAGES = torch.stack([torch.full((2, 3), 0.25), torch.full((2, 3), 0.75)])  # two digits, 3 columns each
LABELS = torch.tensor([4, 9])


def strips(count: int = 20, *, noise: float = 0.0, stack: int = 0, seed: int = 0, gap: int = 2) -> Strips:
    return compose(IMAGES, LABELS, count, fewest=1, most=3, gap=gap, noise=noise, stack=stack,
                   draws=torch.Generator().manual_seed(seed))


def test_tags_digits_and_lengths_tell_what_the_columns_show() -> None:
    made = strips()
    assert made.frames.shape == (20, 15, 2)
    for frames, length, tags, digits in zip(made.frames, made.lengths.tolist(), made.tags, made.digits, strict=True):
        shown = torch.tensor([{4: 0.25, 9: 0.75}.get(tag, 0.0) for tag in tags.tolist()])
        assert torch.equal(frames, shown[:, None].expand(-1, 2))
        assert (tags[length:] == -100).all()
        assert (tags[:length] != -100).all()
        written = [digit - 1 for digit in digits.tolist() if digit]
        digit_tags = tags[tags >= 0][tags[tags >= 0] != GAP]
        assert digit_tags.tolist() == [digit for digit in written for _ in range(3)]
        assert 3 * len(written) <= length <= 5 * len(written)
    assert {int((row > 0).sum()) for row in made.digits} == {1, 2, 3}


def test_noise_is_on_the_columns_and_not_on_the_padding() -> None:
    clean, noisy = strips(400), strips(400, noise=0.5)
    assert torch.equal(clean.lengths, noisy.lengths)
    difference, padded = noisy.frames - clean.frames, clean.tags == -100
    assert (difference[padded] == 0).all()
    assert abs(float(difference[~padded].std()) - 0.5) < 0.02


def test_stacked_frames_hold_their_neighbours() -> None:
    plain, stacked = strips(noise=0.1), strips(noise=0.1, stack=1)
    assert stacked.frames.shape == (20, 15, 6)
    inside = plain.tags != -100
    assert torch.equal(stacked.frames[..., 2:4], plain.frames)
    assert (stacked.frames[:, 0, :2] == 0).all()
    assert torch.equal(stacked.frames[:, 1:, :2], plain.frames[:, :-1] * inside[:, 1:, None])
    assert torch.equal(stacked.frames[:, :-1, 4:], plain.frames[:, 1:] * inside[:, :-1, None])


def test_the_same_draws_give_the_same_strips() -> None:
    assert torch.equal(strips(noise=0.1).frames, strips(noise=0.1).frames)
    assert not torch.equal(strips(noise=0.1).frames, strips(noise=0.1, seed=1).frames)


def small(task: Literal["tagging", "transcription"], fewest: int = 2) -> Source:
    return digit_strips(task=task, train_strips=30, validation_strips=10, test_strips=20, validation_digits=0.1,
                        test_digits=0.3, fewest=fewest, most=5, gap=3, noise=0.0, stack=0)


def test_both_tasks_have_the_same_strips_and_no_digit_in_two_splits() -> None:
    tagging, transcription = small("tagging"), small("transcription")
    assert torch.equal(tagging.train.inputs, transcription.train.inputs)
    assert tagging.info == {"gap": tagging.classes.index("gap")}
    assert [len(part) for part in tagging.parts.values()] == [30, 20, 10]
    for source in (tagging, transcription):
        shape = tuple(source.train.inputs.shape[1:])
        assert task_class(source.task)(source.classes, shape, source.info).problems(source) == []
    digits_of = []
    for part in tagging.parts.values():
        ends = (part.labels != GAP).long().diff(dim=1, prepend=torch.zeros(len(part), 1, dtype=torch.int64)) == 1
        digits_of.append({part.inputs[row, column:column + 8].numpy().tobytes() for row, column in ends.nonzero().tolist()})
    assert not set.intersection(digits_of[0], digits_of[1] | digits_of[2])


def test_a_strip_of_fewer_digits_than_it_has_is_refused() -> None:
    with pytest.raises(ValueError, match="need most=6 or more"):
        small("tagging", fewest=6)
