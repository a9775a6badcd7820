"""Factor transfer."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import AtLeastOne, Bounds, Epochs, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.losses import places
from kdrun.methods.losses.feature import ft
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks

SLOPE = 0.1  # of every leaky activation, as the authors released it


def layers(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: list[int]) -> nn.Sequential:
    """3x3 convolutions of this kind from each number of channels to the next, each with a leaky activation."""
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        parts += [kind(before, after, 3, 1, 1), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*parts)


class FT(ScaledWeights):
    """Let the student translate what the teacher paraphrases: factors of the last map (Kim et al. 2018).

    First the paraphraser learns to rebuild the teacher's map through fewer channels, without labels and without the
    student, at a constant rate; then it stays as it is, and student and translator learn its factors, with the labels.

    Args:
        rate: channels of a factor over those of the teacher's map.
        reconstruction: `l1` is what the authors released, `mse` the paper's squared error.
        paraphraser_epochs: of the first phase.
        factor: `full` compares every channel, `spatial` the mean square of each place (RepDistiller).
        weight: of the factors' mean absolute difference.
        reference: for how many places of the last stage `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    source = "Kim, Park, Kwak: Paraphrasing complex network: network compression via factor transfer. NeurIPS 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou 1", "Gou 5", "Gou 6")
    unit = "places of the last stage"

    paraphraser: nn.Sequential
    rebuilder: nn.Sequential
    translator: nn.Sequential

    def __init__(self, *, rate: Annotated[float, Bounds(above=0, most=1)], reconstruction: Literal["l1", "mse"],
                 paraphraser_epochs: Epochs, factor: Literal["full", "spatial"], weight: NonNegative,
                 reference: AtLeastOne | None, scaling: Scaling, ce_weight: NonNegative) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.rate, self.reconstruction, self.paraphraser_epochs = rate, reconstruction, paraphraser_epochs
        self.factor, self.weight, self.ce_weight = factor, weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build paraphraser and translator."""
        self.rescale(places(networks.student.shapes.stages[-1], networks.teacher.shapes.stages[-1]))
        place = networks.device
        own, given = networks.student.shapes.stages[-1][0], networks.teacher.shapes.stages[-1][0]
        few = max(1, round(self.rate * given))
        self.paraphraser = layers(nn.Conv2d, [given, given, few, few]).to(place)
        self.rebuilder = layers(nn.ConvTranspose2d, [few, few, given, given]).to(place)
        self.translator = layers(nn.Conv2d, [own, own, few, few]).to(place)

    def rebuild(self, networks: Networks, batch: Batch) -> Terms:
        """How well the teacher's map comes back out of its factor."""
        maps = networks.teacher(batch).stages[-1].detach()
        loss = F.l1_loss if self.reconstruction == "l1" else F.mse_loss
        return {"rebuild": loss(self.rebuilder(self.paraphraser(maps)), maps)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The paraphraser, then the student."""
        self.setup(run.networks, run.data)
        yield Phase("paraphraser", loss=self.rebuild, train=[self.paraphraser, self.rebuilder],
                    epochs=self.paraphraser_epochs, constant_rate=True, evaluate=False)
        self.paraphraser.requires_grad_(False)
        self.rebuilder = nn.Sequential()
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and factors."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        apart = ft(self.paraphraser(teacher.stages[-1].detach()), self.translator(student.stages[-1]), self.factor)
        return {"ce": self.ce_weight * self.label_loss(student, batch), "ft": self.scale * self.weight * apart}
