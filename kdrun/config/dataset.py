"""What every data set is told, whatever its reader."""

from dataclasses import dataclass
from typing import Literal

from kdrun.config.constraints import AtLeastOne, Count, FileName, Proportion

__all__ = ["DatasetSettings"]


@dataclass(kw_only=True)
class DatasetSettings:
    """What every data set has, beside the settings of its own reader.

    Attributes:
        name: what results call it.
        validation: the share of the training samples set aside to watch and to choose by; 0 for none. Where a data set
            has validation samples of its own, those are taken; null says that it has.
        split_seed: which pictures those are; not the run's seed, so that all seeds of a sweep share one split.
        train_limit: train on a fixed, class-balanced subset of this many pictures; null for all.
        labelled: a fixed, class-balanced subset of this many of those keeps its labels, and teacher, baseline and student
            learn from it alone; the others are a pool without labels for methods that can use one. null: all keep theirs.
        crop: pixels of padding before a random crop; 0 for none.
        flip: mirror half of the pictures.
        mean: of each channel, for pictures from 0 to 1; null to measure it on the training split;
            `teacher` or `student` for that with which the pretrained weights of this network were trained.
        std: likewise.
    """

    name: FileName
    validation: Proportion | None
    split_seed: Count
    train_limit: AtLeastOne | None
    crop: Count
    flip: bool
    mean: list[float] | Literal["teacher", "student"] | None
    std: list[float] | Literal["teacher", "student"] | None
    labelled: AtLeastOne | None = None  # data sets of others need not know of it

    @property
    def statistics(self) -> tuple[list[float] | None, list[float] | None]:
        """Mean and std, once a role's name has become its numbers."""
        assert not isinstance(self.mean, str), "of whom, is known where the networks are"
        assert not isinstance(self.std, str), "likewise"
        return self.mean, self.std
