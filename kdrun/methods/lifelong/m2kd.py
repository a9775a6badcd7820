"""Multi-model and multi-level distillation."""

import copy
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.lifelong.lifelong import Lifelong
from kdrun.methods.losses import kd
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class M2KD(Lifelong):
    """Have every snapshot of the past teach the classes that it learned first, at several depths (Zhou et al. 2020).

    After each task a snapshot of the student is kept. Each answers for its own task's classes, on new samples alone, so that
    what it knows does not have to pass through those after it. Linear classifiers of the mean of each stage's map but the
    last one learn the same labels, and from the snapshots' classifiers of that stage; they are left off at the end.

    An approximation: the paper's abstract says as much, but not which classifiers of which maps, nor the weights. The paper
    keeps its snapshots as masks of one pruned network, which saves memory and teaches the same; here they are whole. See
    `Lifelong` for tasks, tests and references.

    On the digits (resnet8, five tasks of two classes, three seeds) the average accuracy at the end is, with the task told,
    98.7 ± 0.3 %, of learning without forgetting 96.9 ± 1.9 %, and of `finetune` 80.4 ± 3.4 %; untold, where heads that were
    trained one by one are not comparable, 47.8 ± 5.2, 43.7 ± 9.0 and 22.1 ± 3.7 %; of `joint` 98.6 ± 0.1 %.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        heads: what the labels of a new task compete with: `task`, its own classes, or `class`, all so far.
        temperature: of the snapshots' answers.
        weight: of what each snapshot teaches.
        auxiliary_weight: of the mean over classifiers of intermediate maps, of labels and of snapshots alike.
        finetune: whether to train the reference.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    teacher_count = None
    needs = ("maps", "pictures", "one row a sample", "sample labels")
    knowledge = ("response", "feature")
    source = ("Zhou, Mai, Zhang, Xu, Wu, Davis: M2KD: Incremental learning via multi-model and multi-level knowledge "
              "distillation. BMVC 2020")
    survey_scheme = ""
    survey_tables = ("Gou section 6.8", "Zhu section III-E")

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 heads: Literal["task", "class"], temperature: Positive, weight: NonNegative,
                 auxiliary_weight: NonNegative, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, finetune=finetune)
        self.heads, self.temperature, self.weight, self.auxiliary_weight = heads, temperature, weight, auxiliary_weight
        self.past_auxiliary: list[nn.ModuleList] = []  # of each snapshot: constants, and no part of what is trained

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the classifiers of intermediate maps."""
        stages = networks.student.shapes.stages[:-1] if self.auxiliary_weight else ()
        self.auxiliary = nn.ModuleList(nn.Linear(shape[0], len(data.classes)) for shape in stages).to(networks.device)
        self.past_auxiliary = []

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """Keep the classifiers with the snapshot."""
        self.past_auxiliary.append(copy.deepcopy(self.auxiliary).requires_grad_(False))
        yield from ()

    def levels(self, output: ModelOutput, auxiliary: nn.ModuleList) -> list[Tensor]:
        """The logits of each intermediate map, in the order of learning."""
        return [layer(maps.mean(dim=(2, 3)))[:, self.order]
                for layer, maps in zip(auxiliary, output.stages[:-1] if len(auxiliary) else (), strict=True)]

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, at all depths."""
        return self.loss(networks, batch)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The new labels, and every snapshot on the classes of its task, at all depths."""
        student = self.asked(networks.student, batch)
        pasts = [self.asked(past, batch) for past in networks.teachers] if self.number else []
        terms = {"ce": self.fresh(student, batch)}
        if pasts:
            terms["snapshots"] = self.weight * self.taught([past.logits for past in pasts], student.logits)
        if len(self.auxiliary):
            own = self.levels(student, self.auxiliary)
            theirs = [self.levels(past, kept) for past, kept in zip(pasts, self.past_auxiliary, strict=True)]
            each = [self.fresh(student.replace(logits=logits), batch)
                    + self.weight * self.taught([levels[depth] for levels in theirs], logits)
                    for depth, logits in enumerate(own)]
            terms["auxiliary"] = self.auxiliary_weight * torch.stack(each).mean()
        return terms

    def taught(self, pasts: list[Tensor], student: Tensor) -> Tensor:
        """What snapshots teach, each the classes of its task: logits of each [B, K] against the student's, summed."""
        return sum((kd(past[:, task], student[:, task], self.temperature)
                    for past, task in zip(pasts, self.tasks, strict=False)), student.new_zeros(()))
