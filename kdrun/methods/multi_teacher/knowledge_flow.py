"""Knowledge flow: teachers' maps flow into the student, ever less."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kl
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role, frozen
from kdrun.utils import distributed


class Flow(nn.Module):
    """What flows from teachers into a student: after each stage a weighted sum of its map and the teachers' adapted maps.

    From each teacher it is the stage at the same share of its depth. The weights of a stage are a softmax, equal at first, of
    which the student's own map then has at least the floor.

    Args:
        student: channels of its stages.
        teachers: channels of the stages of each teacher.

    Attributes:
        floor: from 0 to 1, where the teachers count nothing.
    """

    def __init__(self, student: Sequence[int], teachers: Sequence[Sequence[int]]) -> None:
        super().__init__()
        count = len(student)
        self.links = [[-(-stage * len(given) // count) - 1 for given in teachers] for stage in range(1, count + 1)]
        self.adapters = nn.ModuleList([nn.Conv2d(given[place], own, 1)  # stage by stage, of each teacher
                                       for own, places in zip(student, self.links, strict=True)
                                       for given, place in zip(teachers, places, strict=True)])
        self.scores = nn.Parameter(torch.zeros(count, 1 + len(teachers)))
        self.floor = 0.0

    @property
    def shares(self) -> Tensor:
        """How much the student's own map counts after each stage, and each teacher's: [stages, 1 + teachers], rows of sum 1."""
        own = torch.zeros_like(self.scores)
        own[:, 0] = 1.0
        return (1 - self.floor) * self.scores.softmax(dim=1) + self.floor * own

    def forward(self, student: Role, teachers: Sequence[ModelOutput], batch: Batch) -> ModelOutput:
        """What the student answers with what flows into it."""
        shares = self.shares

        def change(stage: int, maps: Tensor) -> Tensor:
            total = shares[stage - 1, 0] * maps
            height, width = maps.shape[-2:]
            for number, (teacher, place) in enumerate(zip(teachers, self.links[stage - 1], strict=True)):
                theirs = teacher.stages[place].detach()
                theirs = theirs if len(theirs) == len(maps) else distributed.part(theirs)
                adapted = self.adapters[(stage - 1) * len(teachers) + number](theirs)
                total = total + shares[stage - 1, 1 + number] * F.adaptive_avg_pool2d(adapted, (height, width))
            return total

        return student.changed(batch, change)

    @property
    def dependence(self) -> Tensor:
        """How far the student's own maps are from being all there is: minus the logarithm of the softmax, summed."""
        return -self.scores.log_softmax(dim=1)[:, 0].sum()


class KnowledgeFlow(Method):
    """Let teachers' maps flow into the student's stages, ever less, until it stands alone (Liu et al. 2019).

    After each stage the student goes on with a weighted sum of its own map and the teachers', which may be of any network
    and of any number. A growing price on relying on them drives the student's own weight to 1, while it is held to what it
    answered an epoch ago. For the last epochs what flows is dropped and the student learns from the labels alone. It is the
    student by itself that is validated, from the first epoch on. The weights that it had learned by then are in `flow.csv`.

    An approximation: the paper was not at hand beyond its abstract. The form of the sum, the price and the divergence are
    recalled; which stages are linked, the schedule and the weights are ours. The paper leaves it to the price that the student
    arrives alone; in short trainings it does not (on 200 digits its own maps had 65 to 82 % of the weight in the end, and by
    itself it was right in 26 % of the test), so this weight has a floor, which grows as the price does, and no map goes missing
    at once.

    Args:
        dependence_weight: the price of relying on teachers, when it is whole.
        free_share: of the epochs with teachers in which that is free; then it grows linearly, and the floor from 0 to 1.
        steady_weight: of the divergence from what was answered an epoch ago.
        alone_share: of the recipe's epochs that the student learns without teachers, at the end.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    needs = ("maps",)
    label_term = None  # with teachers it is not the student's own answer
    knowledge = ("feature",)
    source = "Liu, Peng, Schwing: Knowledge flow: improve upon your teachers. ICLR 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 5", "Zhu section III-A")
    cautions: ClassVar = {
        "offline": "it was measured below the student alone, which has all steps to itself: on 200 digits resnet8 ended at "
                   "84.7 ± 0.1 %, alone at 95.1 ± 0.1 % (three seeds)"}

    flow: Flow | None
    past_flow: Flow | None

    def __init__(self, *, dependence_weight: NonNegative, free_share: Proportion, steady_weight: NonNegative,
                 alone_share: Proportion) -> None:
        super().__init__()
        self.dependence_weight, self.free_share = dependence_weight, free_share
        self.steady_weight, self.alone_share = steady_weight, alone_share
        self.left: list[dict[str, object]] = []

    def setup(self, networks: Networks, data: Data) -> None:
        """Build what flows, and a copy of it and of the student, for what was an epoch ago.

        Raises:
            ValueError: the student does not tell its stages apart.
        """
        student, *teachers = ([shape[0] for shape in role.shapes.stages] for role in (networks.student, *networks.teachers))
        self.flow = Flow(student, teachers).to(networks.device)
        self.past, self.past_flow = frozen(networks.student), copy.deepcopy(self.flow).requires_grad_(False)

    def phases(self, run: Run) -> Iterator[Phase]:
        """With teachers, then alone; the schedule goes over both."""
        self.setup(run.networks, run.data)
        whole = run.recipe.epochs
        alone = min(round(self.alone_share * whole), whole - 1)
        self.until = whole - alone
        yield Phase(epochs=self.until, total=whole)
        assert self.flow is not None
        self.flow.floor = 0.0
        self.left = [{"stage": stage, "student": own, **{teacher.name: share for teacher, share in
                                                         zip(run.networks.teachers, theirs, strict=True)}}
                     for stage, (own, *theirs) in enumerate(self.flow.shares.tolist(), start=1)]
        self.flow = self.past_flow = None
        del self.past
        if alone:
            yield Phase(epochs=alone, total=whole, loss=self.alone)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, the price of relying on teachers, and what was an epoch ago."""
        assert self.flow is not None
        assert self.past_flow is not None
        given = [teacher(batch) for teacher in networks.teachers]
        done = self.grown(batch.epoch)
        if batch.step == 0:  # of an epoch, whose first step is by the same weights
            self.past.network.load_state_dict(networks.student.network.state_dict())
            self.past_flow.load_state_dict(self.flow.state_dict())
        self.flow.floor, self.past_flow.floor = done, self.grown(batch.epoch - 1)
        now = self.flow(networks.student, given, batch)
        terms = {"ce with teachers": self.label_loss(now, batch),
                 "dependence": self.dependence_weight * done * self.flow.dependence}
        if self.steady_weight:
            with torch.no_grad():
                before = self.past_flow(self.past, given, batch)
            terms["steady"] = self.steady_weight * kl(before.logits, now.logits)
        return terms

    def grown(self, epoch: int) -> float:
        """How much of the price, and which floor, an epoch has: 0 at first, 1 in the last one with teachers."""
        return max((epoch / max(self.until - 1, 1) - self.free_share) / (1 - self.free_share), 0.0)

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """How much each map counted after each stage when the teachers were left."""
        return {"flow": self.left}
