"""Strips of handwritten digits side by side, read column by column: sequences of frames with a label each, or without.

Made of the real digits that scikit-learn ships. These are split into training, validation and test before any strip is
composed, so no digit of a test strip has been seen in training.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Count, NonNegative
from kdrun.data.readers import Share, digits
from kdrun.data.samples import Samples, Source
from kdrun.utils.seeding import generator

__all__ = ["GAP", "Strips", "compose", "digit_strips"]

GAP = 10
"""The tag of an empty column, after those of the digits."""


@dataclass
class Strips:
    """N strips of at most T columns and U digits.

    Attributes:
        frames: [N, T, F] float32, zero where padded.
        lengths: [N]: how many columns each has.
        tags: [N, T]: the digit of each column, or `GAP`; -100 where padded.
        digits: [N, U]: the digits from left to right, each plus 1; 0 where there are no more.
    """

    frames: Tensor
    lengths: Tensor
    tags: Tensor
    digits: Tensor


def compose(images: Tensor, labels: Tensor, count: int, *, fewest: int, most: int, gap: int, noise: float, stack: int,
            draws: torch.Generator) -> Strips:
    """Strips of random digits, a random number of empty columns before each, and noise on every column.

    Args:
        images: of digits, [D, H, W] from 0 to 1: W columns each.
        labels: [D].
        count: how many strips.
        fewest: digits in a strip.
        most: likewise.
        gap: the most empty columns before a digit.
        noise: the standard deviation of the Gaussian noise.
        stack: how many neighbours to either side a frame also holds, zero beyond the ends.
        draws: everything is drawn from this.
    """
    size, height, width = images.shape
    numbers = torch.randint(fewest, most + 1, (count,), generator=draws)
    picks = torch.randint(size, (count, most), generator=draws)
    ends = (torch.randint(gap + 1, (count, most), generator=draws) + width).cumsum(dim=1)
    lengths = ends.gather(1, numbers[:, None] - 1)[:, 0]
    columns = most * (width + gap)
    frames, tags = torch.zeros(count, columns, height), torch.full((count, columns), GAP)
    digits = torch.where(torch.arange(most) < numbers[:, None], labels[picks] + 1, 0)
    for place in range(most):
        rows = (numbers > place).nonzero()
        at, pick = ends[rows, place] - width + torch.arange(width), picks[rows[:, 0], place]
        frames[rows, at] = images[pick].float().transpose(1, 2)
        tags[rows, at] = labels[pick][:, None]
    padded = torch.arange(columns) >= lengths[:, None]
    frames = (frames + noise * torch.randn(frames.shape, generator=draws)).masked_fill(padded[..., None], 0)
    wide = F.pad(frames, (0, 0, stack, stack))
    frames = torch.cat([wide[:, start:start + columns] for start in range(2 * stack + 1)], dim=2)
    return Strips(frames.masked_fill(padded[..., None], 0), lengths, tags.masked_fill(padded, -100), digits)


def digit_strips(*, task: Literal["tagging", "transcription"], train_strips: AtLeastOne, validation_strips: AtLeastOne,
                 test_strips: AtLeastOne, validation_digits: Share, test_digits: Share, fewest: AtLeastOne,
                 most: Annotated[int, Bounds(least=1, most=100)], gap: Count, noise: NonNegative, stack: Count) -> Source:
    """Strips of the 1,797 real handwritten digits that scikit-learn ships: nothing to download.

    Args:
        task: `tagging`: which digit, if any, each column shows; `transcription`: which digits there are, in their order.
        train_strips: how many to train on.
        validation_strips: to choose by.
        test_strips: to test on.
        validation_digits: the share of the digits, without those of the test, that validation strips are made of.
        test_digits: the share of the digits that test strips are made of.
        fewest: digits in a strip.
        most: likewise.
        gap: the most empty columns before a digit.
        noise: the standard deviation of the Gaussian noise on every pixel; those of the digits are from 0 to 1.
        stack: how many neighbours to either side a frame also holds.

    Raises:
        ValueError: fewer digits at most than at least.
    """
    if fewest > most:
        raise ValueError(f"fewest is {fewest} and most is {most}; strips of {fewest} digits need "
                         f"most={fewest} or more")
    source = digits(test=test_digits)
    rest, chosen = source.train.part(validation_digits, seed=0, classes=10)
    parts = []
    for name, pool, count in (("train", rest, train_strips), ("validation", chosen, validation_strips),
                              ("test", source.test, test_strips)):
        strips = compose(pool.inputs[..., 0].float() / 255, pool.labels, count, fewest=fewest, most=most, gap=gap, noise=noise,
                         stack=stack, draws=generator("digit_strips", name))
        parts.append(Samples(strips.frames, strips.tags if task == "tagging" else strips.digits, {"lengths": strips.lengths}))
    train, validation, test = parts
    described = (f"{len(rest)} digits in {train_strips} strips to train on, {len(chosen)} others in {validation_strips} to "
                 f"choose by, {len(source.test)} others in {test_strips} to test on")
    if task == "tagging":
        return Source(train, test, (*source.classes, "gap"), validation=validation, found=described, task=task,
                      info={"gap": GAP})
    return Source(train, test, source.classes, validation=validation, found=described, task=task)
