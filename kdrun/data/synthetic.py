"""Made pictures in which each class can be told by either of two views, as in the theory of why distillation helps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Count, NonNegative, Proportion
from kdrun.data.samples import Samples, Source
from kdrun.utils.seeding import generator

__all__ = ["VIEWS", "MultiView", "multiview"]

VIEWS = 2  # of each class
FAINT = 0.1  # how strong the other view is where a sample shows but one


@dataclass(frozen=True, kw_only=True)
class MultiView:
    """Pictures of patches that hold features, after Allen-Zhu and Li (Towards understanding ensemble, knowledge distillation
    and self-distillation in deep learning, ICLR 2023, section 3).

    Each class has two features of its own, all orthonormal. A multi-view sample shows both, a single-view sample one, each
    in `copies` patches; every other patch has a weak copy of some other class's feature. One network alone tends to learn
    one view of each class and to memorise the samples that lack it; an ensemble, and a student taught by one, learn both.
    The paper's proof needs sizes no machine has; these are small ones, and what networks learn of them is to be measured.

    Attributes:
        classes: how many.
        patch: pixels of a patch's side.
        grid: patches of a picture's side.
        copies: patches that show a view.
        single: the share of single-view samples.
        weak: how strong the features of other classes are, at most.
        noise: the standard deviation of every pixel, where a feature's pixels have 1 / `patch`.
        seed: of features and samples.
    """

    classes: Annotated[int, Bounds(least=2)]
    patch: AtLeastOne
    grid: AtLeastOne
    copies: AtLeastOne
    single: Proportion
    weak: NonNegative
    noise: NonNegative
    seed: Count

    def __post_init__(self) -> None:
        if VIEWS * self.classes > self.patch**2:
            raise ValueError(f"patch: {VIEWS * self.classes} features that are orthogonal do not fit into {self.patch}x"
                             f"{self.patch} pixels; wanted at least {math.isqrt(VIEWS * self.classes - 1) + 1}")
        if VIEWS * self.copies > self.grid**2:
            raise ValueError(f"copies: {VIEWS} views in {self.copies} patches each do not fit into {self.grid}x{self.grid} "
                             f"patches; wanted at most {self.grid**2 // VIEWS}")

    @property
    def features(self) -> Tensor:
        """The features [classes, views, pixels], orthonormal."""
        draws = generator("features", self.seed)
        drawn = torch.randn(self.patch**2, VIEWS * self.classes, generator=draws, dtype=torch.float64)
        columns, triangle = torch.linalg.qr(drawn)
        return (columns * triangle.diagonal().sign()).T.reshape(self.classes, VIEWS, -1).float()

    def drawn(self, name: str, labels: Tensor, views: Tensor) -> Samples:
        """Samples of these classes [N] that show both views (-1) or one (0, 1) of them [N]; by the name of their set."""
        draws, count, patches = generator(name, self.seed), len(labels), self.grid**2
        strength = torch.zeros(count, patches, self.classes, VIEWS)
        rows = torch.arange(count)
        for view in range(VIEWS):
            shown = torch.where((views == -1) | (views == view), 1.0, FAINT)
            for copy in range(self.copies):
                strength[rows, view * self.copies + copy, labels, view] = shown
        rest = min(patches - VIEWS * self.copies, VIEWS * (self.classes - 1))
        others = torch.rand(count, VIEWS * (self.classes - 1), generator=draws).argsort(dim=1)[:, :rest]
        other_class = (labels[:, None] + 1 + others // VIEWS) % self.classes
        place = VIEWS * self.copies + torch.arange(rest)
        strength[rows[:, None], place, other_class, others % VIEWS] = self.weak * torch.rand(count, rest, generator=draws)
        order = torch.rand(count, patches, generator=draws).argsort(dim=1)
        strength = strength[rows[:, None], order]
        pixels = strength.flatten(2) @ self.features.flatten(0, 1)
        pixels += self.noise * torch.randn(pixels.shape, generator=draws)
        side = self.grid * self.patch
        whole = pixels.view(count, self.grid, self.grid, self.patch, self.patch).permute(0, 1, 3, 2, 4)
        return Samples(0.5 + whole.reshape(count, side, side, 1) / 2, labels)

    def mixed(self, name: str, count: int) -> Samples:
        """Samples of all classes, multi-view and single-view ones as `single` says."""
        draws = generator("kinds", name, self.seed)
        one = torch.rand(count, generator=draws) < self.single
        views = torch.where(one, torch.randint(VIEWS, (count,), generator=draws), -1)
        return self.drawn(name, torch.arange(count) % self.classes, views)

    def showing(self, view: int, each: int) -> Samples:
        """`each` single-view samples of every class, all of one view, that are in neither training nor test set."""
        labels = torch.arange(self.classes * each) % self.classes
        return self.drawn(f"view {view}", labels, torch.full_like(labels, view))

    def judged(self, images: Tensor) -> Tensor:
        """The logits [N, classes] of the rule that knows every feature: how much of a class's there is in a picture."""
        side = (self.grid, self.patch) * 2
        patches = (2 * images[..., 0] - 1).view(len(images), *side).permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
        found = patches @ self.features.flatten(0, 1).T
        return found.clamp_min(0).view(*found.shape[:2], self.classes, VIEWS).square().sum(dim=(1, 3))

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "MultiView":
        """What a data set's settings describe."""
        return cls(**{name: node[name] for name in cls.__dataclass_fields__})


def multiview(*, classes: Annotated[int, Bounds(least=2)], patch: AtLeastOne, grid: AtLeastOne, copies: AtLeastOne,
              single: Proportion, weak: NonNegative, noise: NonNegative, seed: Count, train: AtLeastOne,
              test: AtLeastOne) -> Source:
    """Made pictures with two views of each class.

    Args:
        classes: this and the next seven as `MultiView` says.
        patch: likewise.
        grid: likewise.
        copies: likewise.
        single: likewise.
        weak: likewise.
        noise: likewise.
        seed: likewise.
        train: how many pictures, the validation split's among them.
        test: how many.

    Raises:
        ValueError: the features do not fit into the patches, or these not into the pictures.
    """
    made = MultiView(classes=classes, patch=patch, grid=grid, copies=copies, single=single, weak=weak, noise=noise, seed=seed)
    names = tuple(f"class {label}" for label in range(classes))
    return Source(made.mixed("train", train), made.mixed("test", test), names)
