"""The flow of the solution procedure."""

import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import Epochs
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Terms
from kdrun.models.roles import ModelOutput, Networks
from kdrun.training.loop import Run


def flow(first: Tensor, last: Tensor, pool: Literal["max", "average"]) -> Tensor:
    """How two maps of one network go together: [B, C1, C2] (Yim et al. 2017, equation 1).

    Args:
        first: the map [B, C1, H, W] where a group of layers starts.
        last: the map [B, C2, H, W] where it ends; of two sizes the larger is pooled to the smaller.
        pool: how.
    """
    size = (min(first.shape[-2], last.shape[-2]), min(first.shape[-1], last.shape[-1]))
    smaller = F.adaptive_max_pool2d if pool == "max" else F.adaptive_avg_pool2d
    start, end = ((maps if maps.shape[-2:] == size else smaller(maps, size)).flatten(2) for maps in (first, last))
    return start @ end.transpose(1, 2) / (size[0] * size[1])


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
    knowledge = "relation"
    source = "Yim, Joo, Bae, Kim: A gift from knowledge distillation. CVPR 2017"
    survey_scheme = "offline"
    rows = ("Gou 2", "Gou 5", "Gou 6", "Alkhulaifi 2")

    def __init__(self, *, reduction: Literal["mean", "sum"], pool: Literal["max", "average"],
                 flow_epochs: Epochs) -> None:
        super().__init__()
        self.reduction, self.pool, self.flow_epochs = reduction, pool, flow_epochs

    def setup(self, networks: Networks, data: object) -> None:
        """Check that the maps pair up.

        Raises:
            ValueError: they differ in number or channels.
        """
        student, teacher = ([shapes.stem[0], *(stage[0] for stage in shapes.stages)]
                            for shapes in (networks.student.shapes, networks.teacher.shapes))
        if student != teacher:
            raise ValueError("the flow pairs maps of equal channels (stem and stages), but the student has "
                             f"{student} and the teacher {teacher}; choose networks of one width and different depth")

    def flows(self, output: ModelOutput) -> list[Tensor]:
        """The flow through each stage."""
        return [flow(*pair, self.pool) for pair in itertools.pairwise([output.stem, *output.stages])]

    def distance(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """How far apart the flows [B, C1, C2] of two networks are, a scalar."""
        apart = [(given - wanted.detach()).square() for wanted, given in zip(teacher, student, strict=True)]
        return sum((pair.mean() if self.reduction == "mean" else pair.sum() / len(pair) for pair in apart),
                   start=torch.zeros_like(apart[0][0, 0, 0]))

    def match(self, networks: Networks, batch: Batch) -> Terms:
        """The flows alone."""
        return {"fsp": self.distance(self.flows(networks.teacher(batch)), self.flows(networks.student(batch)))}

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
