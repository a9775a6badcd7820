"""Strips of handwritten digits side by side, read column by column: sequences of frames with a label each, or without.

Made of the real digits that scikit-learn ships. These are split into training, validation and test before any strip is
composed, so no digit of a test strip has been seen in training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GAP", "Strips", "compose"]

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
    wide = torch.nn.functional.pad(frames, (0, 0, stack, stack))
    frames = torch.cat([wide[:, start:start + columns] for start in range(2 * stack + 1)], dim=2)
    return Strips(frames.masked_fill(padded[..., None], 0), lengths, tags.masked_fill(padded, -100), digits)
