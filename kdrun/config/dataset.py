"""What every data set is told, whatever its reader."""

from dataclasses import dataclass

from kdrun.config.constraints import AtLeastOne, Count, FileName, Proportion

__all__ = ["DatasetSettings"]


@dataclass(kw_only=True)
class DatasetSettings:
    """What every data set has, beside the settings of its own reader.

    Attributes:
        name: what results call it.
        validation: the share of the training pictures set aside to watch and to choose by; 0 for none. Where a data set
            has validation pictures of its own, those are taken.
        split_seed: which pictures those are; not the run's seed, so that all seeds of a sweep share one split.
        train_limit: train on a fixed, class-balanced subset of this many pictures; null for all.
        crop: pixels of padding before a random crop; 0 for none.
        flip: mirror half of the pictures.
        mean: of each channel, for pictures from 0 to 1; null to measure it on the training split.
        std: likewise.
    """

    name: FileName
    validation: Proportion
    split_seed: Count
    train_limit: AtLeastOne | None
    crop: Count
    flip: bool
    mean: list[float] | None
    std: list[float] | None
