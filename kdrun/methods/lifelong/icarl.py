"""Incremental classifier and representation learning."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Count, NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.lifelong.rehearsal import Budget, Choice, Classifier, Rehearsal
from kdrun.methods.losses.incremental import sigmoid_distillation
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class ICaRL(Rehearsal):
    """Answer for old classes as the past did, and classify by the nearest mean of kept samples (Rebuffi et al. 2017).

    The past is met sigmoid by sigmoid; it and labels meet new and kept samples alike. With `labels=sigmoid`, as in the paper,
    every class is a question of its own, and those of old classes are answered by the past alone; with `labels=softmax` the
    labels are learned by cross-entropy over all classes so far. See `Rehearsal` for what is kept and `Lifelong` for tasks,
    tests and references.

    On the digits (resnet8, five tasks of two classes, ten kept samples a class at the end, three seeds) the average accuracy
    over all classes at the end is 94.0 ± 0.5 % by means, 75.2 ± 4.1 % by the head, 19.2 ± 0.5 % of `finetune` and 98.6 ± 0.1 %
    of `joint`; 1.7 points are forgotten. The validation split is seen by the head while a task is learned.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        labels: `sigmoid` or `softmax`.
        weight: of the past.
        exemplars: how many samples are kept.
        budget: whether of all classes so far together (`total`) or of each (`per_class`).
        choice: which: by `herding` or at `random`.
        classifier: of the student: its `head`, or the `means`.
        finetune: whether to train the reference.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    source = "Rebuffi, Kolesnikov, Sperl, Lampert: iCaRL: Incremental classifier and representation learning. CVPR 2017"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 labels: Literal["sigmoid", "softmax"], weight: NonNegative, exemplars: AtLeastOne, budget: Budget,
                 choice: Choice, classifier: Classifier, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, exemplars=exemplars, budget=budget, choice=choice,
                         classifier=classifier, finetune=finetune)
        self.labels, self.weight = labels, weight

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.met(self.asked(networks.student, batch), batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and the past's answers for old classes."""
        student, past = self.asked(networks.student, batch), self.asked(networks.teacher, batch)
        old = slice(0, self.now.start)
        return {"ce": self.met(student, batch),
                "icarl": self.weight * sigmoid_distillation(past.logits[:, old], student.logits[:, old])}

    def met(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The label loss: of the new classes' sigmoids, or of the softmax over all so far."""
        if self.labels == "softmax":
            return self.label_term_of(output, batch)
        wanted = F.one_hot(batch.labels, output.logits.shape[1])[:, self.now].to(output.logits.dtype)
        wanted = (1 - self.label_smoothing) * wanted + self.label_smoothing / 2
        each = F.binary_cross_entropy_with_logits(output.logits[:, self.now], wanted, reduction="none")
        return each.sum(dim=1).mean()
