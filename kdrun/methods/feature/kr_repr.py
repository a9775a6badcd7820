"""Knowledge representing."""

from typing import Annotated

from kdrun.config.constraints import Bounds, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Terms
from kdrun.methods.flows import FlowMethod, Pool, Projection
from kdrun.methods.losses.cross_layer import flow_cross_entropy
from kdrun.models.roles import Networks


class KR(FlowMethod):
    """Match the strongest of the teacher's flows as a distribution, sparsely, beside the labels (Liu et al. 2019).

    An approximation: of the paper its abstract was at hand, and none of its formulas. Known is that it aggregates the
    teacher's parameter distributions by groups of layers, penalises which of the gradients reach the student so that it
    learns a sparse part alone, and compares by cross-entropy. Here a group is a stage, its knowledge the inner products of
    the channels that go in and come out (the matrix of FSP), a softmax makes a distribution of them, and only the entries
    that are largest in the teacher's are kept in both: the others get no gradient. Flows join the labels from the first
    epoch. On the digits (resnet8 taught by resnet20 at 98.6 ± 0.3 %, default settings, three seeds) the student has
    98.4 ± 0.1 %, alone 98.6 ± 0.1 %: no gain was found, by a teacher that is no better; other settings were not tried.

    Args:
        pool: how the larger of two maps of a pair gets the smaller one's size.
        projection: what becomes of maps whose channels differ: `none` refuses them, `learned` leads the student's to the
            teacher's channels by a 1x1 convolution, `fixed` shows the wider in fewer channels by a random orthonormal matrix.
        temperature: what the inner products are divided by before their softmax.
        share: of the entries of a matrix that are kept.
        weight: of the sum of cross-entropies over stages.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    source = "Liu, Wen, Gao, Tao, Chen, Osa, Kato: Knowledge representing: efficient, sparse representation of prior " \
             "knowledge for knowledge distillation. CVPR Workshops 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 1", "Gou 5", "Gou 6")

    def __init__(self, *, pool: Pool, projection: Projection, temperature: Positive,
                 share: Annotated[float, Bounds(above=0, most=1)], weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__(pool=pool, projection=projection)
        self.temperature, self.share, self.weight, self.ce_weight = temperature, share, weight, ce_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and flows."""
        apart = flow_cross_entropy(*self.flows(networks, batch), self.temperature, self.share)
        return {"ce": self.ce_weight * self.label_loss(networks.student(batch), batch), "kr": self.weight * apart}
