"""Attention transfer."""

from dataclasses import replace
from typing import ClassVar, Literal

import torch

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses import mean_distance, places
from kdrun.methods.losses.feature import at
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class AT(ScaledWeights):
    """Match where each stage looks: its activation map, summed over channels (Zagoruyko and Komodakis 2017).

    Networks must have equally many stages; where their maps differ in size the larger is averaged down.

    The authors' code averages squares over the places of a map, so one weight means the more the smaller the pictures
    are: at 8x8 the usual 1000 drowns the labels. `weight` therefore holds for a first stage of `reference` places, and
    goes up and down with that number by the rule of `scaling`; at 32x32 it is the authors'. `linear` undoes the mean over
    places, and is still too much for the labels of the digits. There resnet8 alone has 98.6 ± 0.1 %; taught by wrn_16_2 it has
    98.3 ± 0.2 % with `linear` and 98.8 ± 0.3 % with `square`, by resnet20 98.1 ± 0.4 % and 98.7 ± 0.2 %, over three seeds;
    by gradients of wrn_16_2 99.0 ± 0.1 %.

    Args:
        power: of the absolute activations.
        weight: of the sum over stages.
        reference: for how many places of the first stage `weight` was given (1024 is 32x32); null takes it as it is.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
        gradient_weight: of half the distance of gradients.
        mode: of activations: `code` is the mean square difference that the authors released, `paper` half the unsquared
            distance of their equation 2.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    structural = True
    source = "Zagoruyko, Komodakis: Paying more attention to attention. ICLR 2017"
    survey_scheme = "offline"
    survey_tables: ClassVar[tuple[str, ...]] = ("Gou 1", "Gou section 6.5")
    unit = "places of the first stage"

    def __init__(self, *, by: Literal["activation", "gradient"], power: Positive, weight: NonNegative,
                 reference: AtLeastOne | None, scaling: Scaling, ce_weight: NonNegative, gradient_weight: NonNegative,
                 mode: Literal["code", "paper"]) -> None:
        super().__init__()
        self.by, self.gradient_weight = by, gradient_weight
        self.reference, self.scaling = reference if mode == "code" else None, scaling
        self.power, self.weight, self.ce_weight, self.mode = power, weight, ce_weight, mode

    def setup(self, networks: Networks, data: Data) -> None:
        """Check that the stages pair up, or that both networks see the same pictures.

        Raises:
            ValueError: they do not.
        """
        if self.by == "gradient":
            if networks.teacher.view is not None:
                raise ValueError("by=gradient compares gradients with respect to the same pictures, and the teacher sees "
                                 "another modality; choose by=activation")
            return
        self.rescale(places(*networks.paired_stages("attention transfer")[0]))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the attention of every stage, or of the whole."""
        if self.by == "gradient":
            return self.gradient_loss(networks, batch)
        student, teacher = networks.student(batch), networks.teacher(batch)
        apart = [at(*pair, self.power, self.mode) for pair in zip(teacher.stages, student.stages, strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "at": self.scale * self.weight * torch.stack(apart).sum()}

    def gradient_loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the gradients of the label loss of each sample with respect to its picture."""
        pictures = batch.pictures.detach().requires_grad_()
        asked = replace(batch, x=pictures)
        student, teacher = networks.student(asked), networks.teacher(asked)
        wanted, given = (torch.autograd.grad(len(batch) * self.task.label_loss(output, asked), pictures, create_graph=learns)[0]
                         for output, learns in ((teacher, False), (student, True)))
        return {"ce": self.ce_weight * self.label_loss(student, asked),
                "at": self.gradient_weight * mean_distance(given, wanted.detach()) / 2}
