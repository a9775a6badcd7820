"""Numbers of two handwritten digits, some of which are never trained on: for retrieval and verification."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Count, Fraction, NonNegative, Positive, Proportion
from kdrun.data.readers import digits
from kdrun.data.samples import Samples, Source
from kdrun.evaluation import retrieval_metrics
from kdrun.utils.seeding import generator

__all__ = ["two_digits"]

HEIGHT, WIDTH, MARGIN = 12, 20, 2  # of the canvas, and what it has around the 8x16 pixels of two digits


def two_digits(*, unseen: Annotated[int, Bounds(least=2, most=98)], each: AtLeastOne, validation_each: AtLeastOne,
               test_each: Annotated[int, Bounds(least=2)], rotation: Annotated[float, Bounds(least=0, most=180)],
               zoom: Proportion, shift: NonNegative, noise: NonNegative, seed: Count, head: Literal["linear", "arcface"],
               scale: Positive, margin: Fraction, far: Fraction) -> Source:
    """Two of scikit-learn's digits side by side on a distorted canvas of 12x20 pixels: 00 to 99, some only in the test.

    The digits' pictures are split into training, validation and test before any number is made of them. Validation
    pictures show numbers that are trained on; what is tested are numbers that no training picture shows.

    Args:
        unseen: how many of the 100 numbers are for the test alone.
        each: pictures of each number to train on.
        validation_each: likewise, to choose by.
        test_each: pictures of each unseen number.
        rotation: by up to so many degrees either way.
        zoom: by up to this share, larger or smaller.
        shift: by up to so many pixels along each axis.
        noise: the standard deviation of every pixel, for pictures from 0 to 1.
        seed: of the split and of the pictures.
        head: this and the next three are the task's settings, see `kdrun.tasks.retrieval.Retrieval`.
        scale: likewise.
        margin: likewise.
        far: likewise.
    """
    whole = digits(test=0.5)
    pictures, labels = (torch.cat([getattr(part, name) for part in (whole.train, whole.test)]) for name in ("inputs", "labels"))
    order = torch.randperm(len(labels), generator=generator("two digits", "pictures", seed))
    ends = [round(share * len(order)) for share in SHARES]
    train, validation, test = order.tensor_split(torch.tensor(ends))
    numbers = torch.randperm(100, generator=generator("two digits", "numbers", seed))
    hidden, seen = numbers[:unseen].sort().values, numbers[unseen:].sort().values

    def drawn(name: str, shown: Tensor, count: int, rows: Tensor) -> Tensor:
        """Pictures of each of these numbers, made of these rows."""
        draws = generator("two digits", name, seed)
        shape = shown.repeat_interleave(count)
        halves = []
        for digit in (shape // 10, shape % 10):
            by_class = [rows[labels[rows] == label] for label in range(10)]
            place = torch.rand(len(digit), generator=draws)
            size = torch.tensor([len(own) for own in by_class])[digit]
            start = torch.tensor([0, *[len(own) for own in by_class[:-1]]]).cumsum(0)[digit]
            halves.append(pictures[torch.cat(by_class)[start + (place * size).long()], ..., 0])
        return _distorted(torch.cat(halves, dim=2), rotation, zoom, shift, noise, draws)

    parts = {"train": (seen, each, train), "validation": (seen, validation_each, validation), "test": (hidden, test_each, test)}
    made = {}
    for name, (shown, count, rows) in parts.items():
        # numbers that are trained on come first: their place among those is the class that networks learn
        target = torch.arange(len(shown)).repeat_interleave(count) + (len(seen) if name == "test" else 0)
        made[name] = Samples(drawn(name, shown, count, rows), target, {})
    return Source(made["train"], made["test"], tuple(f"{number:02d}" for number in seen.tolist()),
                  validation=made["validation"], task="retrieval", found=raw_pixels(made["test"]),
                  info={"head": head, "scale": scale, "margin": margin, "far": far})


def raw_pixels(test: Samples) -> str:
    """A line on how far one comes without any network: the pictures' own pixels as their embeddings."""
    pixels, labels = test.inputs.flatten(1).float(), test.labels
    return (f"{len(test)} test pictures of {len(labels.unique())} numbers that nobody is trained on; raw pixels reach recall@1 "
            f"{100 * (retrieval_metrics.recall_at_1(pixels, labels) or 0):.1f} %, ROC AUC "
            f"{retrieval_metrics.roc_auc(retrieval_metrics.pairs(pixels, labels)):.3f}")


SHARES = (0.6, 0.7)  # of the digits' pictures: where those of training and of validation end


def _distorted(pairs: Tensor, rotation: float, zoom: float, shift: float, noise: float, draws: torch.Generator) -> Tensor:
    """Pictures [N, 8, 16] uint8 on the canvas [N, 12, 20, 1], each turned, zoomed, moved (in pixels) and made noisy."""
    canvas = F.pad(pairs.float()[:, None] / 255, (MARGIN,) * 4)

    def uniform(reach: float) -> Tensor:
        return reach * (2 * torch.rand(len(pairs), generator=draws) - 1)

    angle, size, right, down = uniform(math.radians(rotation)), 1 + uniform(zoom), uniform(shift), uniform(shift)
    cosine, sine = angle.cos() / size, angle.sin() / size
    # in units of half the canvas, as torch wants it: a turn on a canvas that is not square keeps lengths only this way
    theta = torch.stack([cosine, -sine * HEIGHT / WIDTH, 2 * right / WIDTH,
                         sine * WIDTH / HEIGHT, cosine, 2 * down / HEIGHT], dim=1).view(-1, 2, 3)
    turned = F.grid_sample(canvas, F.affine_grid(theta, list(canvas.shape), align_corners=False), align_corners=False)
    noisy = turned + noise * torch.randn(turned.shape, generator=draws)
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
