"""The flow of the solution procedure."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor

from kdrun.config.constraints import Epochs
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses.layers import fsp, fsp_matrices
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class FSP(Method):
    """Start the student from the teacher's flow: how each stage's output goes with its input (Yim et al. 2017).

    First the student without its classifier learns the inner products of the channels of consecutive maps (stem, stage
    1, stage 2, ...; equation 2), at a constant rate as in RepDistiller, then all of it learns from the labels alone. Both
    networks need the same channels; the sizes of their maps may differ.

    A student that taught itself would start from the flow of an untrained network, so `scheme=self` is not offered.

    Args:
        reduction: of the squared differences of a pair: `mean`, as other toolkits have it, or `sum`, the paper's; both
            average over samples and add up the pairs.
        pool: how the larger of two maps of a pair gets the smaller one's size; the paper's is `max`.
        flow_epochs: of the first phase.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps",)
    knowledge = ("relation",)
    source = "Yim, Joo, Bae, Kim: A gift from knowledge distillation. CVPR 2017"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 5", "Gou 6", "Alkhulaifi 2")

    def __init__(self, *, reduction: Literal["mean", "sum"], pool: Literal["max", "average"],
                 flow_epochs: Epochs) -> None:
        super().__init__()
        self.reduction, self.pool, self.flow_epochs = reduction, pool, flow_epochs

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that the maps pair up.

        Raises:
            ValueError: they differ in number or channels.
        """
        student, teacher = ([shapes.stem[0] if shapes.stem else 0, *(stage[0] for stage in shapes.stages)]
                            for shapes in (networks.student.shapes, networks.teacher.shapes))
        if not student[0] or not teacher[0]:
            raise ValueError("the flow begins at the map before the first stage, and one of the networks has none")
        if student != teacher:
            raise ValueError("the flow pairs maps of equal channels (stem and stages), but the student has "
                             f"{student} and the teacher {teacher}; choose networks of one width and different depth")

    def flows(self, output: ModelOutput) -> list[Tensor]:
        """The flow through each stage."""
        assert output.stem is not None
        return fsp_matrices([output.stem, *output.stages], self.pool)

    def match(self, networks: Networks, batch: Batch) -> Terms:
        """The flows alone."""
        return {"fsp": fsp(self.flows(networks.teacher(batch)), self.flows(networks.student(batch)), self.reduction)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The flow, then the labels."""
        self.setup(run.networks, run.data)
        student = run.networks.student
        yield Phase("flow", loss=self.match, train=student.until(len(student.shapes.stages)), epochs=self.flow_epochs,
                    constant_rate=True, evaluate=False)
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels."""
        return {"ce": self.label_loss(networks.student(batch), batch)}
