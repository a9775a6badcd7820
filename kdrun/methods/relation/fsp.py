"""The flow of the solution procedure."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import nn

from kdrun.config.constraints import Epochs
from kdrun.data.batch import Batch
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.flows import FlowMethod, Pool, Projection
from kdrun.methods.losses.layers import fsp
from kdrun.models.roles import Networks


class FSP(FlowMethod):
    """Start the student from the teacher's flow: how each stage's output goes with its input (Yim et al. 2017).

    First the student without its classifier learns the inner products of the channels of consecutive maps (stem, stage
    1, stage 2, ...; equation 2), at a constant rate as in RepDistiller, then all of it learns from the labels alone. The
    sizes of the maps may differ. Both networks need the same channels, as in the paper, unless a `projection` is asked for.

    A student that taught itself would start from the flow of an untrained network, so `scheme=self` is not offered.

    Args:
        reduction: of the squared differences of a pair: `mean`, as other toolkits have it, or `sum`, the paper's; both
            average over samples and add up the pairs.
        pool: how the larger of two maps of a pair gets the smaller one's size; the paper's is `max`.
        projection: what becomes of maps whose channels differ: `none` refuses them, `learned` leads the student's to the
            teacher's channels by a 1x1 convolution, `fixed` shows the wider in fewer channels by a random orthonormal matrix.
        flow_epochs: of the first phase.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps",)
    knowledge = ("relation",)
    source = "Yim, Joo, Bae, Kim: A gift from knowledge distillation. CVPR 2017"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 5", "Gou 6", "Alkhulaifi 2")

    def __init__(self, *, reduction: Literal["mean", "sum"], pool: Pool, projection: Projection, flow_epochs: Epochs) -> None:
        super().__init__(pool=pool, projection=projection)
        self.reduction, self.flow_epochs = reduction, flow_epochs

    def match(self, networks: Networks, batch: Batch) -> Terms:
        """The flows alone."""
        return {"fsp": fsp(*self.flows(networks, batch), self.reduction)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The flow, then the labels."""
        self.setup(run.networks, run.data)
        student = run.networks.student
        yield Phase("flow", loss=self.match, train=[*student.until(len(student.shapes.stages)), self.of_student],
                    epochs=self.flow_epochs, constant_rate=True, evaluate=False)
        self.of_student, self.of_teacher = nn.ModuleList(), nn.ModuleList()
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels."""
        return {"ce": self.label_loss(networks.student(batch), batch)}
