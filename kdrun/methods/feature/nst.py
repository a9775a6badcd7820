"""Neuron selectivity transfer."""

from typing import Literal

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses import places
from kdrun.methods.losses.feature import nst
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks

Kernel = Literal["poly", "linear", "gaussian"]


class NST(ScaledWeights):
    """Match what the channels of a map respond to, as two sets of patterns (Huang and Wang 2017).

    Networks may differ in channels; where their maps differ in size the larger is averaged down. The part of the
    discrepancy that the teacher alone decides is kept, so it is zero for equal sets.

    Patterns over few places are more alike than patterns over many, and the discrepancy is the larger: the weight goes
    with the places of the last stage. On the digits, where those are 2x2 (resnet8 taught by wrn_16_2, three seeds), the
    authors' 50 taken as it is ends at 97.1 ± 0.7 %, scaled at 98.5 ± 0.3 %, the baseline at 98.6 ± 0.1 %.

    Args:
        kernel: `poly` (of degree 2), `linear` or `gaussian`.
        stages: `last`, as the authors have it, or `all`, summed (RepDistiller).
        activated: whether maps are taken after their activation; the authors take them before.
        weight: of the discrepancy.
        reference: for how many places of the last stage `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    source = "Huang, Wang: Like what you like: knowledge distill via neuron selectivity transfer. " \
             "arXiv 1707.01219, 2017"
    survey_scheme = "offline"
    survey_tables = ("Gou 1", "Gou section 6.5")
    unit = "places of the last stage"

    def __init__(self, *, kernel: Kernel, stages: Literal["last", "all"], activated: bool, weight: NonNegative,
                 reference: AtLeastOne | None, scaling: Scaling, ce_weight: NonNegative) -> None:
        super().__init__()
        self.kernel, self.stages, self.activated = kernel, stages, activated
        self.weight, self.ce_weight = weight, ce_weight
        self.reference, self.scaling = reference, scaling

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that there are patterns to match.

        Raises:
            ValueError: stages that do not pair up, or maps of one place.
        """
        student, teacher = networks.student.shapes.stages, networks.teacher.shapes.stages
        if self.stages == "all":
            networks.paired_stages("method.stages=all", hint="choose method.stages=last")
        if any(shape[1:].numel() == 1 for shape in (student[-1], teacher[-1])):
            raise ValueError("neuron selectivity needs maps of more than one place, but the last stage's is 1x1")
        self.rescale(places(student[-1], teacher[-1]))

    def maps(self, output: ModelOutput) -> tuple[Tensor, ...]:
        """Those that are matched."""
        maps = output.stages if self.activated else output.preacts
        return maps if self.stages == "all" else maps[-1:]

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and channels."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        apart = [nst(*pair, self.kernel)
                 for pair in zip(self.maps(teacher), self.maps(student), strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "nst": self.scale * self.weight * torch.stack(apart).sum()}
