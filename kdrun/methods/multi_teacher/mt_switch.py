"""Several teachers, one at a time."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.models.roles import Networks, Role


class SwitchedTeachers(Method):
    """Learn each batch from one of several teachers, or in turn from all of them (Fukuda et al. 2017).

    The targets are never averaged. `switch` draws a teacher for every batch; `round_robin` takes them in turn, beginning one
    further in each epoch, so that a batch's teacher depends on nothing but epoch and step; `augment` shows each batch once
    for every teacher, so that an epoch has as many times more updates. In the mean `switch` pulls the student as the average
    of the teachers' soft terms does. One teacher makes this Hinton's method. The soft term is the KL divergence times the
    squared temperature; the paper's soft cross-entropy at temperature 1 has the same gradient.

    Args:
        strategy: `switch`, `round_robin` or `augment`.
        temperature: softens all answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    knowledge = ("response",)
    plain_logits = ""
    source = "Fukuda, Suzuki, Kurata, Thomas, Cui, Ramabhadran: Efficient knowledge distillation from an ensemble of " \
             "teachers. Interspeech 2017"
    survey_scheme = "offline"
    survey_tables = ("Gou 3", "Alkhulaifi 1")

    def __init__(self, *, strategy: Literal["switch", "round_robin", "augment"], temperature: Positive, ce_weight: NonNegative,
                 kd_weight: NonNegative) -> None:
        super().__init__()
        self.strategy, self.temperature, self.ce_weight, self.kd_weight = strategy, temperature, ce_weight, kd_weight

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update by the teacher that is drawn or whose turn it is, or one by each."""
        if self.strategy == "augment":
            for number, teacher in enumerate(networks.teachers):
                yield "student", self.taught(networks, teacher, batch, again=number > 0)
        else:
            teacher = self.drawn(networks) if self.strategy == "switch" else self.due(networks, batch)
            yield "student", self.taught(networks, teacher, batch)

    def drawn(self, networks: Networks) -> Role:
        """One of the teachers, each as probably."""
        return networks.teachers[int(torch.randint(len(networks.teachers), (), generator=self.random))]

    def due(self, networks: Networks, batch: Batch) -> Role:
        """The teacher whose turn it is."""
        return networks.teachers[(batch.epoch + batch.step) % len(networks.teachers)]

    def taught(self, networks: Networks, teacher: Role, batch: Batch, again: bool = False) -> Terms:
        """Labels and one teacher's answer; `again` after the student has moved within the batch."""
        student = networks.student(batch, fresh=again)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher(batch).logits, student.logits, self.temperature)}
