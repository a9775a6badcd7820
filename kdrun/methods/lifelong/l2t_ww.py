"""Learning what and where to transfer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Turns
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.cross_layer import weighted_matching
from kdrun.methods.unrolled import SGD, Unrolled
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class Matching(nn.Module):
    """For each pair of a student's and a teacher's stage a 1x1 convolution from the one's channels to the other's.

    Args:
        teacher: channels of its stages.
        student: channels of its stages.
    """

    def __init__(self, teacher: Sequence[int], student: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(before, after, 1) for after in teacher for before in student)

    def forward(self, *stages: Tensor) -> list[Tensor]:
        """What becomes of the student's stages: each for the teacher's first, then each for its second, ..."""
        return [layer(stages[number % len(stages)]) for number, layer in enumerate(self.layers)]


class Weighing(nn.Module):
    """How much each channel of a teacher's stage and each pair of stages counts for a sample, read from the teacher's maps.

    Channels begin alike; pairs near 1.

    Args:
        teacher: channels of its stages.
        count: stages of the student.
    """

    def __init__(self, teacher: Sequence[int], count: int) -> None:
        super().__init__()
        self.what = nn.ModuleList(nn.Linear(wide, wide) for wide in teacher for _ in range(count))
        self.where = nn.ModuleList(nn.Linear(wide, 1) for wide in teacher for _ in range(count))
        for weight in self.what.parameters():
            nn.init.zeros_(weight)
        for name, weight in self.where.named_parameters():
            if name.endswith("bias"):
                nn.init.ones_(weight)

    def forward(self, pair: int, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The weights [B, C] and [B] of a pair, in the order of `Matching`, by the teacher's map [B, C, H, W]."""
        pooled = maps.mean(dim=(2, 3))
        return self.what[pair](pooled).softmax(dim=1), F.relu6(self.where[pair](pooled)[:, 0])


class L2TWW(Method):
    """Match every stage of the student to every one of the teacher, and meta-learn which channels and pairs help (Jang 2019).

    A weight for each channel of the teacher (what) and one for each pair of stages (where) are read from the teacher's maps by
    small networks. After each update by the labels and the weighed distances the student looks ahead: some steps on the
    distances alone, then one on the labels; the cross-entropy at the end has a gradient through all these steps (with their
    momentum and decay) to those small networks, which descend it. Then the student goes on from where it was: weights, momenta
    and statistics of the look-ahead are left behind. `meta_lr=0` leaves the weights as they begin.

    The paper's teacher knows another, larger data set than the student; here it is the run's own, so `teacher.checkpoint` of
    another run with a new head or a data set of several modalities is what comes near that. The look-ahead differentiates steps
    of SGD, which the recipe has to be.

    Measured on the digits (resnet8 taught by wrn_16_2, default settings, one seed): 98.4 % of the test set right, the
    student alone 98.6 %, by Hinton's loss 98.8 %. An update and its look-ahead cost several times one of Hinton's.

    Args:
        weight: of the distances.
        ahead: steps of the look-ahead on the distances alone.
        meta_lr: of the small networks' Adam.
        meta_decay: likewise.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps",)
    knowledge = ("feature",)
    plain_logits = ""
    source = "Jang, Lee, Hwang, Shin: Learning what and where to transfer. ICML 2019"
    survey_scheme = ""
    survey_tables = ("Gou section 6.8",)

    matching: Matching
    weighing: Weighing
    trained_by: torch.optim.Optimizer

    def __init__(self, *, weight: NonNegative, ahead: Turns, meta_lr: NonNegative, meta_decay: NonNegative) -> None:
        super().__init__()
        self.weight, self.ahead, self.meta_lr, self.meta_decay = weight, ahead, meta_lr, meta_decay

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the convolutions and the small networks for all pairs."""
        teacher, student = ([stage[0] for stage in role.shapes.stages] for role in (networks.teacher, networks.student))
        self.matching = Matching(teacher, student).to(networks.device)
        self.weighing = Weighing(teacher, len(student)).to(networks.device)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student with its convolutions, and the small networks."""
        learned = {"student": [networks.student, self.matching]}
        return learned | ({"meta": [self.weighing]} if self.meta_lr else {})

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam at a constant rate for the small networks."""
        if player == "meta":
            return torch.optim.Adam([{"params": list(weights), "scheduled": False}], lr=self.meta_lr,
                                    weight_decay=self.meta_decay)
        self.trained_by = recipe.build(weights)
        return self.trained_by

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The student's update, and that of the small networks by a look ahead."""
        wanted = [maps.detach() for maps in networks.teacher(batch).stages]
        student = networks.student(batch)
        yield "student", {"ce": self.label_loss(student, batch), "matching": self.apart(wanted, self.matching(*student.stages))}
        if self.meta_lr:
            yield "meta", {"ce ahead": self.look_ahead(networks, batch, wanted)}

    def apart(self, wanted: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        """The weighed distances of all pairs, by the teacher's stages and what becomes of the student's."""
        times = len(given) // len(wanted)
        maps = [wanted[pair // times] for pair in range(len(given))]
        return self.weight * torch.stack([weighted_matching(known, own, *self.weighing(pair, known))
                                          for pair, (known, own) in enumerate(zip(maps, given, strict=True))]).sum()

    def look_ahead(self, networks: Networks, batch: Batch, wanted: Sequence[Tensor]) -> Tensor:
        """The cross-entropy after some steps on the distances and one on the labels, differentiable through them."""
        momenta = {weight: buffer for weight, held in self.trained_by.state.items()
                   if (buffer := held.get("momentum_buffer")) is not None}
        model = Unrolled({"student": networks.student.network, "matching": self.matching}, momenta)
        by = SGD.of(self.trained_by, model.weights)

        def answer() -> ModelOutput:
            return networks.student.through(batch, lambda given: model("student", given))

        for _ in range(self.ahead):
            model.step(self.apart(wanted, model("matching", *answer().stages)), by)
        model.step(self.label_loss(answer(), batch), by)
        return self.label_loss(answer(), batch)
