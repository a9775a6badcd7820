"""Feature-level ensemble distillation."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import nn

from kdrun.config.constraints import AtLeastOne, Few, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses import places
from kdrun.methods.losses.feature import ft
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks, frozen


def transformation(before: int, after: int) -> nn.Sequential:
    """Three 3x3 convolutions with normalisation and leaky activation, from maps of so many channels to so many."""
    parts: list[nn.Module] = []
    for channels in (before, after, after):
        parts += [nn.Conv2d(channels, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*parts)


class FEED(ScaledWeights):
    """Bring the student's last map to that of each teacher by a transformation of its own (Park and Kwak 2020).

    The transformations are non-linear, work side by side on the student's map, and are dropped after training. Maps are
    compared as vectors of length one by their mean absolute difference; the teachers' are taken as they are, where factor
    transfer paraphrases them. With several `generations` it is the paper's sequential form: the student of each generation
    is the one teacher of the next, which begins with other first weights.

    An approximation: the paper was not at hand beyond its abstract, so the transformation's layers (those of factor
    transfer), the norm and the weight are ours.

    Args:
        generations: how many students are trained, each by the one before; 1 is the parallel form.
        weight: of the mean absolute difference, summed over teachers.
        reference: for how many places of the last stage `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    needs = ("maps",)
    knowledge = ("feature",)
    source = "Park, Kwak: Feature-level ensemble knowledge distillation for aggregating knowledge from multiple networks. " \
             "ECAI 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou 3",)
    unit = "places of the last stage"

    transformations: nn.ModuleList

    def __init__(self, *, generations: Few, weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.generations, self.weight, self.ce_weight = generations, weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a transformation for each teacher."""
        own, given = networks.student.shapes.stages[-1], [teacher.shapes.stages[-1] for teacher in networks.teachers]
        self.rescale(min(places(own, shape) for shape in given))
        self.transformations = nn.ModuleList([transformation(own[0], shape[0]) for shape in given]).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """Generation after generation."""
        for generation in range(1, self.generations + 1):
            self.setup(run.networks, run.data)
            yield Phase() if self.generations == 1 else Phase(f"generation {generation}")
            if generation < self.generations:
                run.networks.teachers = [frozen(run.networks.student, f"generation {generation}")]
                run.networks.student = run.factory.student(generation)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the teachers' maps."""
        student = networks.student(batch)
        apart = [ft(teacher(batch).stages[-1], change(student.stages[-1]))
                 for teacher, change in zip(networks.teachers, self.transformations, strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "feed": self.scale * self.weight * torch.stack(apart).sum()}
