"""The losses as pure functions of tensors; `kdrun.functional` is their public name."""

from kdrun.methods.losses.arithmetic import (
    distances,
    halving_sum,
    mean_distance,
    mixture,
    places,
    ramp,
    same_size,
    standardise,
    unit_rows,
)
from kdrun.methods.losses.response import kd, kl, soft_cross_entropy

__all__ = ["distances", "halving_sum", "kd", "kl", "mean_distance", "mixture", "places", "ramp", "same_size",
           "soft_cross_entropy", "standardise", "unit_rows"]
