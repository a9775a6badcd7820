"""Singular value decomposition of feature maps."""

import math

from kdrun.config.constraints import AtLeastOne, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.clipping import clipped
from kdrun.methods.losses.layers import kdsvd
from kdrun.models.roles import Networks


def same_channels(networks: Networks, what: str) -> list[int]:
    """The channels of each stage, which are the student's and the teacher's.

    Args:
        networks: of the training.
        what: pairs them, for people.

    Raises:
        ValueError: the stages do not pair up, are fewer than two, or differ in channels.
    """
    pairs = networks.paired_stages(what)
    student, teacher = ([shape[0] for shape in side] for side in zip(*pairs, strict=True))
    if student != teacher:
        raise ValueError(f"{what} pairs stages of equal channels, but the student has {student} and the teacher {teacher}; "
                         "choose networks of one width and different depth")
    if len(pairs) < 2:
        raise ValueError(f"{what} leads from one stage to the next, and these networks have one; choose networks of two stages "
                         "or more")
    return student


class KDSVD(Method):
    """Match how the leading singular vectors of consecutive stages go together (Lee et al. 2018).

    A sample's map, as a matrix of places by channels, is compressed to the right singular vectors of its largest singular
    values; the student's are those among its first few that are most like the teacher's. Of two consecutive stages every
    entry of one vector is compared with every entry of the other by a Gaussian. Stages need equal channels; the sizes of
    maps may differ.

    Vectors are known up to their sign, and the Gaussian is not: here each teacher's vector is turned so that its sum is not
    negative, which for maps after a ReLU is what a decomposition makes of the first one.

    Args:
        count: how many vectors of a map.
        weight: of the squared difference, summed over entries and stages, averaged over samples.
        ce_weight: of the cross-entropy with the labels.
        clip: whether the gradient of the difference is cut to the length of the labels', weight by weight, as the authors do
            (in the first epochs to a share of it that grows along a sigmoid); other toolkits do not.
    """

    needs = ("maps",)
    knowledge = ("relation",)
    source = "Lee, Kim, Song: Self-supervised knowledge distillation using singular value decomposition. ECCV 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 3.3",)

    def __init__(self, *, count: AtLeastOne, weight: NonNegative, ce_weight: NonNegative, clip: bool) -> None:
        super().__init__()
        self.count, self.weight, self.ce_weight, self.clip = count, weight, ce_weight, clip

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that the stages pair up in number and channels.

        Raises:
            ValueError: they do not.
        """
        same_channels(networks, "a singular value decomposition")

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and vectors."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        ce = self.ce_weight * self.label_loss(student, batch)
        svd = self.weight * kdsvd(teacher.stages, student.stages, self.count)
        if self.clip:
            svd = clipped(svd, ce, networks.student.parameters(), share(batch.epoch))
        return {"ce": ce, "svd": svd}


def share(epoch: int) -> float:
    """How much of the length of the labels' gradient the other's may have in an epoch: a sigmoid, 1/2 in the first."""
    return 1 / (1 + math.exp(-epoch))
