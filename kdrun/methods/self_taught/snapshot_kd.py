"""Snapshot distillation."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from kdrun.config.constraints import Few, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks, frozen


def lopsided(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's answers at temperature 1 against the teacher's softened ones; logits [B, K]."""
    return soft_cross_entropy(teacher / temperature, student)


class SnapshotKD(Method):
    """Learn in cycles, each taught by the student at the end of the cycle before (Yang et al. 2019).

    The first cycle learns from labels alone. The teacher's answers are softened and the student's are not, so the student
    that fits best is softer than its teacher. Each cycle runs the recipe's schedule from its start (the paper's
    schedule is a cosine); the optimizer goes on, and all cycles together take as many epochs as any other method.

    Args:
        cycles: how many, the first included.
        temperature: softens the teacher's answers.
        ce_weight: of the cross-entropy with the labels, from the second cycle on.
        kd_weight: of the soft term.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    plain_logits = ""
    source = "Yang, Xie, Su, Yuille: Snapshot distillation: teacher-student optimization in one generation. CVPR 2019"
    survey_scheme = "self"
    survey_tables = ("Gou 6",)

    def __init__(self, *, cycles: Few, temperature: Positive, ce_weight: NonNegative,
                 kd_weight: NonNegative) -> None:
        super().__init__()
        self.cycles, self.temperature, self.ce_weight, self.kd_weight = cycles, temperature, ce_weight, kd_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """Cycle after cycle."""
        for number, length in enumerate(run.recipe.parts(self.cycles)):
            yield Phase("cycles", epochs=length, total=run.recipe.epochs, restart=True,
                        loss=None if number else self.alone)
            run.networks.teachers = [frozen(run.networks.student, f"snapshot {number + 1}")]

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the snapshot."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * lopsided(teacher.logits, student.logits, self.temperature)}
