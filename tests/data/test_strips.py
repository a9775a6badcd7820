import torch

from kdrun.data.strips import GAP, Strips, compose

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
