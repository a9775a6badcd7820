"""What methods share that compare the flows through two networks (FSP matrices of consecutive maps)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method
from kdrun.methods.losses.layers import fsp_matrices
from kdrun.models.output import ModelOutput, Shapes
from kdrun.models.roles import Networks

__all__ = ["FlowMethod", "Pool", "Projection"]

Pool = Literal["max", "average"]
Projection = Literal["none", "learned", "fixed"]


class FixedProjection(nn.Module):
    """Maps [B, C, H, W] seen in fewer channels [B, C', H, W], by a matrix of orthonormal rows that does not learn.

    Args:
        before: C.
        after: C', less than that.
        draws: makes the matrix.
    """

    matrix: Tensor

    def __init__(self, before: int, after: int, draws: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("matrix", nn.init.orthogonal_(torch.empty(after, before), generator=draws))

    def forward(self, maps: Tensor) -> Tensor:
        """The projection of each place."""
        return torch.einsum("dc,bchw->bdhw", self.matrix, maps)


class FlowMethod(Method):
    """A method that compares how each stage's output goes with its input, in both networks.

    A flow is a matrix of the channels of two consecutive maps, so the papers' networks have the same channels. Where they do
    not, `projection` says what to do: `none` refuses them; `learned` leads the student's map to the teacher's channels by a
    1x1 convolution that learns with the student and is dropped afterwards; `fixed` shows the wider of the two maps in as many
    channels as the other has, by a random matrix with orthonormal rows. Maps of equal channels are compared as they are.

    Args:
        pool: how the larger of two maps of a pair gets the smaller one's size.
        projection: what becomes of maps whose channels differ.
    """

    def __init__(self, *, pool: Pool, projection: Projection) -> None:
        super().__init__()
        self.pool, self.projection = pool, projection
        self.of_student, self.of_teacher = nn.ModuleList(), nn.ModuleList()

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a projection for each map whose channels differ.

        Raises:
            ValueError: the maps do not pair up.
        """
        student, teacher = channels(networks.student.shapes), channels(networks.teacher.shapes)
        if not student[0] or not teacher[0]:
            raise ValueError("the flow begins at the map before the first stage, and one of the networks has none")
        if len(student) != len(teacher) or (student != teacher and self.projection == "none"):
            more = "; projection=learned or fixed compares them all the same" if len(student) == len(teacher) else ""
            raise ValueError("the flow pairs maps of equal channels (stem and stages), but the student has "
                             f"{student} and the teacher {teacher}; choose networks of one width and different depth{more}")
        self.of_student, self.of_teacher = nn.ModuleList(), nn.ModuleList()
        for own, others in zip(student, teacher, strict=True):
            if self.projection == "learned" and own != others:
                self.of_student.append(nn.Conv2d(own, others, 1, bias=False))
            else:
                self.of_student.append(FixedProjection(own, others, self.random) if own > others else nn.Identity())
            self.of_teacher.append(FixedProjection(others, own, self.random)
                                   if self.projection == "fixed" and others > own else nn.Identity())
        self.to(networks.device)

    def flows(self, networks: Networks, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """The flow through each stage of the teacher and of the student: matrices [B, C1, C2]."""
        def of(output: ModelOutput, projections: Sequence[nn.Module]) -> list[Tensor]:
            assert output.stem is not None
            maps = [output.stem, *output.stages]
            return fsp_matrices([change(one) for change, one in zip(projections, maps, strict=True)], self.pool)

        return (of(networks.teacher(batch).detach(), list(self.of_teacher)),
                of(networks.student(batch), list(self.of_student)))


def channels(shapes: Shapes) -> list[int]:
    """Of the stem (0 where there is none) and of each stage."""
    return [shapes.stem[0] if shapes.stem else 0, *(stage[0] for stage in shapes.stages)]
