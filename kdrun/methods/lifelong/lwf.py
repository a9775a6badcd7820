"""Learning without forgetting."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdrun.config.constraints import AtLeastOne, Count, Epochs, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.lifelong.lifelong import Lifelong
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks, Role


def remembered(past: Tensor, student: Tensor, heads: Sequence[slice], temperature: float) -> Tensor:
    """The soft cross-entropies of logits [B, K] in each head against the past, summed; no squared temperature."""
    return torch.stack([soft_cross_entropy(past[:, head], student[:, head], temperature) for head in heads]).sum()


class LwF(Lifelong):
    """Learn new classes while answering for the old ones as before, without old data (Li and Hoiem 2016).

    The student as it was before a task says what the old heads should answer to the new pictures (asked live, so the
    augmentation is the same). See `Lifelong` for tasks, tests and references. Untold, heads that were trained one by one
    are not comparable; `heads=class` trains all classes so far as one head, to which the labels of a new task alone say that
    no picture is of an old class.

    On the digits (resnet8, five tasks of two classes, three seeds) the average accuracy at the end is, with the task told,
    96.9 ± 1.9 %, and 79.5 ± 1.9 % of `finetune`; untold 43.7 ± 9.0, 24.0 ± 5.2 and of `joint` 98.6 ± 0.1 %.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        heads: what the labels of a new task compete with: `task`, its own classes (the paper), or `class`, all so far.
        old_heads: `task`, a soft term for each old task (the paper), or `joined`, one over all old classes.
        temperature: of the old answers.
        weight: of the soft terms.
        warmup_epochs: in which only the new head is trained when a task comes.
        fix_bn: whether normalisation stays as it was after the first task.
        finetune: whether to train the reference without the soft terms.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    source = "Li, Hoiem: Learning without forgetting. ECCV 2016"
    survey_scheme = ""
    survey_tables = ("Gou section 6.8", "Zhu section III-E")

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 heads: Literal["task", "class"], old_heads: Literal["task", "joined"], temperature: Positive,
                 weight: NonNegative, warmup_epochs: Epochs, fix_bn: bool, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, finetune=finetune)
        self.heads, self.old_heads, self.temperature, self.weight = heads, old_heads, temperature, weight
        self.warmup_epochs, self.fix_bn, self.warming = warmup_epochs, fix_bn, False

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """The new head alone."""
        student = run.networks.student
        for module in student.modules():
            if self.fix_bn and isinstance(module, _BatchNorm):
                module.requires_grad_(False)
        if self.warmup_epochs:
            self.warming = True
            yield Phase(f"task {self.number + 1} head", loss=self.warm, train=above(student), data=stream,
                        epochs=self.warmup_epochs, constant_rate=True, evaluate=False)
            self.warming = False

    def warm(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone, in the new head alone."""
        heads, self.heads = self.heads, "task"
        loss = self.fresh(self.asked(networks.student, batch), batch)
        self.heads = heads
        return {"ce": loss}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's; while the new head warms up without decay, so that the old heads beside it stay as they are."""
        return (replace(recipe, weight_decay=0.0) if self.warming else recipe).build(weights)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The new labels, and what the past says of the old classes."""
        student, past = self.asked(networks.student, batch), self.asked(networks.teacher, batch)
        old = self.tasks[:self.number] if self.old_heads == "task" else [slice(0, self.now.start)]
        return {"ce": self.fresh(student, batch),
                "lwf": self.weight * remembered(past.logits, student.logits, old, self.temperature)}


def above(role: Role) -> list[nn.Module]:
    """The parts of a network that come after its last stage.

    Raises:
        ValueError: the network does not tell its parts.
    """
    below = {id(weight) for part in role.until(len(role.shapes.stages)) for weight in part.parameters()}

    def free(module: nn.Module) -> list[nn.Module]:
        weights = [id(weight) for weight in module.parameters()]
        if below.isdisjoint(weights):
            return [module] if weights else []
        return [part for child in module.children() for part in free(child)]
    return free(role.network)
