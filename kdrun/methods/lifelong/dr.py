"""Lifelong learning by distillation and retrospection."""

import copy
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch

from kdrun.config.constraints import AtLeastOne, Count, Epochs, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream, exemplars
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.lifelong.lifelong import Lifelong
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks, frozen


class DR(Lifelong):
    """Learn a new task from an expert of it and the old ones from the past, on a few kept pictures (Hou et al. 2018).

    When a task comes, a copy of the student first becomes its expert, by the labels. Then the student learns the expert's
    softened answers to new pictures in the new head, and its own past's answers to kept pictures in the old heads: a kept
    picture touches no new head, a new picture no old one. A batch holds as many kept pictures as new ones. The ablations:
    `distillation` keeps none and asks the past about new pictures, `retrospection` has no expert but labels. See
    `Lifelong` for tasks, tests and references. All parts learn at the recipe's rate; the authors' new heads learn ten
    times faster than the rest.

    On the digits (resnet8, five tasks of two classes, five kept pictures of each, three seeds) the average accuracy at the end
    is, with the task told, 96.3 ± 1.4 %, and 79.5 ± 1.9 % of `finetune`; untold 39.4 ± 3.9, 24.0 ± 5.2 and of `joint`
    98.6 ± 0.1 %.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        mode: `full`, `distillation` or `retrospection`.
        exemplars: how many pictures are kept of each class.
        temperature: of the past's and the expert's answers.
        weight: of each soft term.
        expert_epochs: how long an expert is trained.
        finetune: whether to train the reference.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    source = "Hou, Pan, Loy, Wang, Lin: Lifelong learning via progressive distillation and retrospection. ECCV 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 6.8", "Zhu section III-E")

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 mode: Literal["full", "distillation", "retrospection"], exemplars: AtLeastOne, temperature: Positive,
                 weight: NonNegative, expert_epochs: Epochs, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, finetune=finetune)
        self.mode, self.exemplars, self.temperature, self.weight = mode, exemplars, temperature, weight
        self.expert_epochs = expert_epochs

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """The expert of the new task, by its labels."""
        networks = run.networks
        if self.mode == "retrospection":
            return
        student, networks.student = networks.student, copy.deepcopy(networks.student)
        yield Phase(f"task {self.number + 1} expert", loss=self.specialise, train=[networks.student], data=stream,
                    epochs=self.expert_epochs, evaluate=False)
        networks.teachers.append(frozen(networks.student, "expert"))
        networks.student = student

    def specialise(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.fresh(self.asked(networks.student, batch), batch)}

    def batches(self, run: Run, stream: TaskStream) -> TaskStream:
        """New pictures, and the kept ones of all earlier classes beside them."""
        if not self.number or self.mode == "distillation":
            return stream
        kept = exemplars(stream.labels, self.now.start, self.exemplars, run.seed)
        return TaskStream(run.stream, self.turns, self.now, kept)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The past on the old heads, and the expert, or the labels, on the new head."""
        student, past = self.asked(networks.student, batch), self.asked(networks.teachers[0], batch).logits
        new = slice(0, self.new)
        shown = new if self.mode == "distillation" else slice(self.new, len(batch))
        old = torch.stack([soft_cross_entropy(past[shown, head], student.logits[shown, head], self.temperature)
                           for head in self.tasks[:self.number]]).sum()
        if self.mode == "retrospection":
            return {"ce": self.fresh(student, batch), "old": self.weight * old}
        expert = self.asked(networks.teachers[1], batch).logits
        return {"new": self.weight * soft_cross_entropy(expert[new, self.now], student.logits[new, self.now], self.temperature),
                "old": self.weight * old}
