"""Inter-channel correlation."""

from torch import nn

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.layers import ickd
from kdrun.models.roles import Networks


class ICKD(Method):
    """Match how the channels of the last map correlate over its places (Liu et al. 2021).

    A 1x1 convolution and normalisation lead from the student's channels to the teacher's, and are dropped afterwards. The
    sizes of the maps may differ. The paper's figures are with and without Hinton's term beside it (`method=combine`).

    Args:
        weight: of the squared difference, summed over a row of correlations.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("relation",)
    source = "Liu, Huang, Lin, Xie, Wang, Chang, Liang: Exploring inter-channel correlation for diversity-preserved " \
             "knowledge distillation. ICCV 2021"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.weight, self.ce_weight = weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the layers that lead to the teacher's channels."""
        before, after = (role.shapes.stages[-1][0] for role in (networks.student, networks.teacher))
        self.embedding = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)).to(networks.device)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and correlations."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "ickd": self.weight * ickd(teacher.stages[-1], self.embedding(student.stages[-1]))}
