"""Quantization mimic."""

import copy
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import same_size
from kdrun.methods.losses.feature import hint
from kdrun.methods.structure.made import share_of
from kdrun.models.quantization import rounded
from kdrun.models.roles import Networks, Role, frozen


class QuantMimic(Method):
    """Mimic a map of the teacher after both are rounded to the same few levels (Wei et al. 2018).

    First the teacher learns on from the labels with its map of a stage rounded to multiples of a step, at a constant share of
    the recipe's rate (a network that cannot be parted at its stages stays as it is). Then the student learns from the labels
    and from the rounded map, which a 1x1 convolution brings its own to before that is rounded as well; what is on the same
    level costs nothing. The step is a share of the spread of the teacher's map, since maps of networks are of many sizes.
    Weights stay in full precision: rounding is a means of teaching here, and the student is stored as ever.
    On the digits resnet8 has 98.9 ± 0.2 %, alone 98.6 ± 0.1 %, taught by kd 98.8 ± 0.2 % (wrn_16_2 teaching, three seeds).
    An approximation: weight, step and rate are ours.

    Args:
        teacher_stage: whose map is mimicked, from 1; null for the last.
        student_stage: of the student, likewise.
        step: between two levels, in standard deviations of the teacher's map over a training batch.
        weight: of the mimicry.
        ce_weight: of the cross-entropy with the labels.
        teacher_share: of the recipe's epochs for the teacher's own part; at least one.
        teacher_lr: share of the recipe's learning rate in it.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps",)
    knowledge = ("feature",)
    source = "Wei, Pan, Qin, Ouyang, Yan: Quantization mimic: towards very tiny CNN for object detection. ECCV 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.7",)

    distance: Tensor  # between two levels

    def __init__(self, *, teacher_stage: AtLeastOne | None, student_stage: AtLeastOne | None, step: Positive,
                 weight: NonNegative, ce_weight: NonNegative, teacher_share: Positive, teacher_lr: Positive) -> None:
        super().__init__()
        self.teacher_stage, self.student_stage, self.step_share = teacher_stage, student_stage, step
        self.weight, self.ce_weight, self.teacher_share, self.teacher_lr = weight, ce_weight, teacher_share, teacher_lr
        self.register_buffer("distance", torch.ones(()))
        self.stages: dict[str, int] = {}  # of student and teacher, from 0
        self.fine_tuned: list[Role] = []  # no module of the method, whose weights the student's optimizer has

    def setup(self, networks: Networks, data: Data) -> None:
        """Build what brings the student's map to the teacher's channels.

        Raises:
            ValueError: a stage that is not there.
        """
        self.stages = {}
        channels = []
        for who, role, wanted in (("student", networks.student, self.student_stage),
                                  ("teacher", networks.teacher, self.teacher_stage)):
            stages = role.shapes.stages
            if (wanted or 1) > len(stages):
                raise ValueError(f"method.{who}_stage is {wanted}, but the {who} has {len(stages)} stages")
            self.stages[who] = (wanted or len(stages)) - 1
            channels.append(stages[self.stages[who]][0])
        self.regressor = nn.Conv2d(channels[0], channels[1], 1)
        self.to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The teacher with its rounded map, then the student."""
        networks = run.networks
        self.setup(networks, run.data)
        teacher = networks.teacher
        with torch.no_grad():
            spread = teacher(next(iter(run.stream.epoch(0, 1)))).stages[self.stages["teacher"]].std()
        teacher.forget()
        self.distance.copy_(self.step_share * spread)
        if not hasattr(teacher.network, "onward"):
            self.note(f"the teacher is not trained on with its rounded map, for {type(teacher.network).__name__} does not tell "
                      "its stages apart")
            yield Phase()
            return
        learner = Role(copy.deepcopy(teacher.network), "quantised teacher", teacher.task, teacher.model,
                       teacher.view).runs_like(teacher)
        learner.requires_grad_(True)
        networks.peers = self.fine_tuned = [learner]
        yield Phase("quantised teacher", loss=self.rounded_teacher, train=[learner], epochs=share_of(run, self.teacher_share),
                    constant_rate=True, evaluate=False)
        networks.peers, networks.teachers = [], [frozen(learner, "teacher")]
        yield Phase()

    def rounded_teacher(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, by the answer of the teacher with its rounded map."""
        answer = networks.peers[0].changed(batch, lambda stage, maps: (
            rounded(maps, self.distance) if stage == self.stages["teacher"] + 1 else maps))
        return {"ce": self.label_loss(answer, batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and the rounded map of the teacher."""
        student = networks.student(batch)
        own, wanted = same_size(self.regressor(student.stages[self.stages["student"]]),
                                networks.teacher(batch).stages[self.stages["teacher"]].detach())
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "mimicry": self.weight * hint(rounded(wanted, self.distance), rounded(own, self.distance))}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's, slower for the trained teacher."""
        optimizer = recipe.build(weights)
        if any(weight is weights[0] for role in self.fine_tuned for weight in role.parameters()):
            for group in optimizer.param_groups:
                group["lr"] *= self.teacher_lr
        return optimizer
