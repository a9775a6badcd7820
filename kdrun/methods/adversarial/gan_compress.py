"""Compressing generators of pictures by distillation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import Epochs, NonNegative
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.synthesis import discriminator_of, discriminator_optimizer, fooled, judged
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks
from kdrun.models.synthesis import pictures
from kdrun.tasks.synthesis import Synthesis

DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


class GANCompress(Method):
    """Teach a small generator the pictures and maps of a large one, against a discriminator (Aguinaldo et al. 2019).

    Both see the same codes: the student's pictures are brought to the teacher's, its maps, through 1x1 convolutions, to the
    teacher's, and a discriminator tells its pictures from real ones. Li et al. (2020): L1 and the weights 1 (discriminator),
    100, 1. Aguinaldo et al. `mse`: L2 and the weights 0, 1, 0; `joint`: L2, the discriminator's weight alpha, the pictures'
    1 - alpha, and no maps.

    Li et al. go on with the teacher's discriminator. Here a teacher is a network without the one that trained it, so a new one
    first learns to tell the teacher's pictures from real ones. Their search for the channels of each layer is left out. What
    of Aguinaldo et al. is not in their abstract is not known here.

    Measured on the digits (`dataset=synthesis`, 150 epochs, seed 1 alone): coverage 87.0 % of the teacher, 82.7 % of the
    student alone, which has 3 % of its parameters, 87.5 % of the student taught; 95.0 % of real training pictures.

    `synthesis.csv` has the measures of the student beside those of real training pictures, which no generator should beat, and
    of the student class by class.

    Args:
        discriminator_weight: of the discriminator's verdict; 0 trains none.
        picture_weight: of the distance between the pictures.
        map_weight: of that between the maps, the sum over stages of mean squared differences.
        distance: between pictures, `l1` or `l2`, the mean over pixels.
        discriminator_epochs: in which the discriminator learns about the teacher's pictures first.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("made pictures", "maps")
    label_term = None
    plain_logits = "has no logits to compare"
    knowledge = ("response", "feature")
    source = "Li, Lin, Ding, Liu, Zhu, Han: GAN compression: efficient architectures for interactive conditional GANs. CVPR " \
             "2020"
    survey_scheme = "offline"
    survey_tables: ClassVar[tuple[str, ...]] = ("Gou section 6.1",)

    def __init__(self, *, discriminator_weight: NonNegative, picture_weight: NonNegative, map_weight: NonNegative,
                 distance: Literal["l1", "l2"], discriminator_epochs: Epochs) -> None:
        super().__init__()
        if not discriminator_weight + picture_weight + map_weight:
            raise ValueError("method.discriminator_weight, picture_weight and map_weight are all 0; the student would learn "
                             "nothing")
        self.discriminator_weight, self.picture_weight, self.map_weight = discriminator_weight, picture_weight, map_weight
        self.distance, self.discriminator_epochs = distance, discriminator_epochs
        self.learning = True  # whether the student does, or the discriminator alone

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the discriminator and the convolutions between the maps.

        Raises:
            ValueError: the networks have maps of other sizes.
        """
        student, teacher = networks.student.shapes.stages, networks.teacher.shapes.stages
        if self.map_weight and [shape[1:] for shape in student] != [shape[1:] for shape in teacher]:
            raise ValueError(f"gan_compress compares maps of the same sizes; the student {networks.student.model} has "
                             f"{[list(shape) for shape in student]}, the teacher {networks.teacher.model} "
                             f"{[list(shape) for shape in teacher]}; take as many widths, or method.map_weight=0")
        pairs = zip(student, teacher, strict=True) if self.map_weight else ()
        self.adapters = nn.ModuleList(nn.Conv2d(own[0], theirs[0], 1) for own, theirs in pairs).to(networks.device)
        self.discriminator = discriminator_of(data.task).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The discriminator on the teacher's pictures, then both."""
        self.setup(run.networks, run.data)
        if self.discriminator_weight and self.discriminator_epochs:
            self.learning = False
            yield Phase("discriminator", epochs=self.discriminator_epochs, evaluate=False)
            self.learning = True
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The discriminator where it counts, and the student with its convolutions."""
        discriminator = {"discriminator": [self.discriminator]} if self.discriminator_weight else {}
        return {**discriminator, "student": [networks.student, self.adapters]} if self.learning else discriminator

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The task's for the discriminator."""
        return discriminator_optimizer(self.task, weights) if player == "discriminator" else recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator, then the student by the same pass."""
        made = pictures(networks.student(batch) if self.learning else networks.teacher(batch))
        if self.discriminator_weight:
            yield "discriminator", judged(self.discriminator, made, batch, self.task)
        if self.learning:
            yield "student", self.loss(networks, batch)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """What the student descends."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        terms = {}
        if self.discriminator_weight:
            terms["discriminator"] = self.discriminator_weight * fooled(self.discriminator, pictures(student), batch)
        if self.picture_weight:
            terms["picture"] = self.picture_weight * DISTANCES[self.distance](pictures(student), pictures(teacher))
        if self.map_weight:
            apart = [F.mse_loss(adapter(own), theirs) for adapter, own, theirs in
                     zip(self.adapters, student.stages, teacher.stages, strict=True)]
            terms["map"] = self.map_weight * torch.stack(apart).sum()
        return terms

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The measures of real pictures, of the student, and of the student class by class."""
        task, test, train = self.task, run.data.test, run.data.train
        assert isinstance(task, Synthesis)
        if len(train) > len(test):
            train = train.limit(len(test), run.data.settings.split_seed, len(task.classes))
        made = answers(run.networks.student, run.data, test, run.device).logits
        rows = [{"pictures": "training", "class": "all", **task.compared(task.real(train), train.labels, test)},
                {"pictures": "student", "class": "all", **task.compared(made, test.labels, test)}]
        for label, name in enumerate(task.classes):
            own = test.labels == label
            rows.append({"pictures": "student", "class": name, **task.compared(made[own], test.labels[own], test)})
        return {"synthesis": rows}
