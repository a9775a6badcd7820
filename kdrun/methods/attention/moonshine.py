"""Attention transfer to a student of cheap convolutions."""

from typing import Literal

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.data import Data
from kdrun.methods.attention.at import AT
from kdrun.methods.scaling import Scaling
from kdrun.models.roles import Networks

MAPS = 3  # of the authors' networks, one a stage: their weight is of as many


class Moonshine(AT):
    """Teach the teacher's own architecture with cheap convolutions where each of its stages looks (Crowley et al. 2018).

    The student is the teacher with every 3x3 convolution of its blocks replaced by a cheap one, as `student=wrn_cheap` and
    `student=resnet_cheap` are (`student.conv` says which: grouped, depthwise, with a bottleneck, ...); stem, shortcuts and
    classifier stay. Their maps have the same shapes, and `at` is the loss. The authors divide its weight by the number of maps
    that are compared, so that all together count the same however many there are; here each stage has one map (they can compare
    several of each). On the digits resnet8 of depthwise convolutions has 97.3 ± 0.7 % alone and 97.8 ± 0.5 % taught by resnet8,
    which has five times its parameters and 98.7 ± 0.4 % (three seeds).

    Args:
        power: of the absolute activations.
        weight: of the sum over three stages; of others in proportion.
        reference: for how many places of the first stage `weight` was given (1024 is 32x32); null takes it as it is.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
        mode: see `at`.
    """

    structural = True
    source = "Crowley, Gray, Storkey: Moonshine: distilling with cheap convolutions. NeurIPS 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.5",)

    def __init__(self, *, power: Positive, weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling,
                 ce_weight: NonNegative, mode: Literal["code", "paper"]) -> None:
        super().__init__(by="activation", power=power, weight=weight, reference=reference, scaling=scaling, ce_weight=ce_weight,
                         gradient_weight=0.0, mode=mode)

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that the stages pair up, and weigh them by their number.

        Raises:
            ValueError: they do not.
        """
        super().setup(networks, data)
        self.scale *= MAPS / len(networks.student.shapes.stages)
