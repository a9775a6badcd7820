"""Differentiable feature aggregation."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Epochs, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import same_size
from kdrun.models.blocks import Blockwise
from kdrun.models.roles import Networks, Role, frozen


def aggregate(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The weighted sum of maps [B, C, H, W], by weights [N]."""
    return torch.einsum("n,nbchw->bchw", weights, torch.stack([*maps]))


def distance(aggregated: Tensor, connected: Tensor) -> Tensor:
    """The mean squared difference of two maps; the larger is averaged down."""
    given, wanted = same_size(connected, aggregated)
    return (given - wanted).square().mean()


class DFA(Method):
    """Search which blocks of the teacher to add up for each stage, then teach the student these sums (Guan et al. 2020).

    The search takes one stage after the other, and for each begins with the student's first weights. The training split is
    halved: on one half the student learns, on the other the blocks' weights (a softmax of what Adam moves), one step of each
    in turn, both by the bridge loss. That has two paths: the student's map is drawn to the sum (which alone would prefer
    shallow blocks), and the sum goes through the rest of the student to the labels (which asks for blocks that tell much).
    Then the weights are fixed, the student begins anew, and learns the labels and the sums of all stages. `aggregation.csv`
    has what was found.

    Only what is told of the paper by others was at hand, so that the weights of the terms, the length of the search and its
    rates are an approximation; the search is of first order, as in DARTS, and the paper's slight regularisation of the
    blocks' weights is `decay` here. A stage's blocks must have maps of one shape to be added: those that have not are left
    out. Networks must have equally many stages, and the teacher has to tell its blocks apart, as kdrun's own convolutional
    classifiers do.

    On the digits (resnet8 taught by wrn_16_2, default settings, three seeds) the student has 98.6 ± 0.3 %, as it has alone
    (98.6 ± 0.1 %), and 98.8 ± 0.2 % by Hinton's loss; ten times the weight was worse on the validation split.

    Args:
        search_epochs: of the search of each stage.
        search_lr: of the blocks' weights, by Adam.
        decay: of what they are the softmax of.
        to_teacher: weight of the student's distance from the sum, in the search.
        to_student: weight of the labels at the end of the sum's way through the student, in the search.
        weight: of the sum over stages of the distance, after the search.
        ce_weight: of the cross-entropy with the labels, after the search.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "pictures", "one row a sample", "sample labels")
    knowledge = ("feature",)
    source = "Guan, Zhao, Wang, Zhang, Yao, Bian, Tang: Differentiable feature aggregation search for knowledge " \
             "distillation. ECCV 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou 1",)

    architecture: nn.ParameterList

    def __init__(self, *, search_epochs: Epochs, search_lr: Positive, decay: NonNegative, to_teacher: NonNegative,
                 to_student: NonNegative, weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.search_epochs, self.search_lr, self.decay = search_epochs, search_lr, decay
        self.to_teacher, self.to_student, self.weight, self.ce_weight = to_teacher, to_student, weight, ce_weight
        self.searched: int | None = None  # the stage, counted from 0; None after the search

    def setup(self, networks: Networks, data: Data) -> None:
        """Find the teacher's blocks, and build the weights and the connectors of every stage.

        Raises:
            ValueError: the stages do not pair up, or the teacher does not tell its blocks apart.
        """
        teacher, pairs = networks.teacher, networks.paired_stages("feature aggregation")
        seen = Blockwise(teacher.network)
        role = frozen(Role(seen, teacher.name, teacher.task, teacher.model, teacher.view).runs_like(teacher))
        shapes, ends = role.shapes.stages, torch.tensor(seen.counts).cumsum(0).tolist()
        self.members = [[number for number in range(end - count, end) if shapes[number] == shapes[end - 1]]
                        for end, count in zip(ends, seen.counts, strict=True)]
        self.blocks = (role,)  # in a tuple: the teacher is no part of the method
        self.architecture = nn.ParameterList(torch.zeros(len(own)) for own in self.members)
        self.of_student = nn.ModuleList(nn.Conv2d(own[0], others[0], 1) for own, others in pairs)
        self.of_teacher = nn.ModuleList(nn.Conv2d(others[0], own[0], 1) for own, others in pairs)
        self.to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The search of every stage, then everything."""
        networks, data = run.networks, run.data
        self.setup(networks, data)
        first = copy.deepcopy(networks.student.network.state_dict())
        stream, self.held = (replace(data, train=half).stream(batch_size=run.stream.size, seed=run.seed, device=run.device)
                             for half in data.train.part(0.5, run.seed, len(data.classes)))
        for stage in range(len(self.members)):
            self.searched = stage
            yield Phase(f"search {stage + 1}", data=stream, epochs=self.search_epochs, evaluate=False)
            networks.student.network.load_state_dict(first)
            networks.student.forget()
        self.searched, self.of_teacher = None, nn.ModuleList()
        self.architecture.requires_grad_(False)
        for layer in self.of_student:
            layer.reset_parameters()  # type: ignore[operator]
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student with its connectors; in the search the blocks' weights too, by an optimizer of their own."""
        student = {"student": [networks.student, self.of_student, self.of_teacher]}
        return student if self.searched is None else {**student, "architecture": [self.architecture]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the blocks' weights, at a constant rate."""
        if player != "architecture":
            return recipe.build(weights)
        return torch.optim.Adam([{"params": list(weights), "scheduled": False}], lr=self.search_lr, weight_decay=self.decay)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """In the search, the student on its half and the blocks' weights on theirs; afterwards all terms."""
        if self.searched is None:
            yield "student", self.loss(networks, batch)
            return
        yield "student", self.bridge(networks, batch, self.searched)
        step = batch.step % len(self.held)
        yield "architecture", self.bridge(networks, next(self.held.epoch(batch.epoch, batch.epochs, step)), self.searched)

    def sum(self, batch: Batch, stage: int) -> Tensor:
        """The teacher's blocks of a stage, added up by their weights."""
        maps = self.blocks[0](batch).stages
        return aggregate([maps[number].detach() for number in self.members[stage]], self.architecture[stage].softmax(dim=0))

    def bridge(self, networks: Networks, batch: Batch, stage: int) -> Terms:
        """The student's way to the sum, and the sum's way through the rest of the student to the labels."""
        wanted, student = self.sum(batch, stage), networks.student(batch)
        entered, _ = same_size(self.of_teacher[stage](wanted), student.stages[stage])
        answer = networks.student.onward(entered, stage + 1)
        return {"to teacher": self.to_teacher * distance(wanted, self.of_student[stage](student.stages[stage])),
                "to student": self.to_student * self.label_loss(answer, batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and the sums of all stages."""
        student = networks.student(batch)
        apart = [distance(self.sum(batch, stage), connect(student.stages[stage]))
                 for stage, connect in enumerate(self.of_student)]
        return {"ce": self.ce_weight * self.label_loss(student, batch), "dfa": self.weight * torch.stack(apart).sum()}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """How much each of the teacher's blocks counts."""
        return {"aggregation": [{"stage": stage, "block": number, "weight": weight}
                                for stage, own in enumerate(self.architecture, start=1)
                                for number, weight in enumerate(own.softmax(dim=0).tolist(), start=1)]}
