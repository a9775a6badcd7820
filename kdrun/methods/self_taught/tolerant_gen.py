"""Generations that a tolerant teacher begins."""

from typing import Annotated, ClassVar

from kdrun.config.constraints import Bounds, Few, Fraction
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses import kl
from kdrun.methods.losses.response import top_score_difference
from kdrun.methods.shapes import Generations
from kdrun.models.roles import Networks


class TolerantGenerations(Generations):
    """Begin born-again generations with a teacher that keeps something for the next likely classes (Yang et al. 2019a).

    Generation 0 learns from the labels and lowers how far its largest probability is above the mean of the next ones, so
    that it is less sure and says which classes are alike; each generation after it learns from the labels and from the one
    before.

    That score difference is the paper's; its three numbers are from memory, so this is an approximation.

    Args:
        generations: how many are taught.
        scores: of how many classes, the largest first, generation 0 compares the probabilities.
        first_share: of the labels in generation 0; the score difference has the rest.
        label_share: of the labels in the others; the teacher has the rest.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    knowledge = ("response",)
    plain_logits = "lowers its own largest probability"
    source = "Yang, Xie, Qiao, Yuille: Training deep neural networks in generations: a more tolerant teacher educates " \
             "better students. AAAI 2019"
    survey_scheme = "online (Gou, Table 3)"
    survey_tables = ("Gou 3",)

    def __init__(self, *, generations: Few, scores: Annotated[int, Bounds(least=2)], first_share: Fraction,
                 label_share: Fraction) -> None:
        super().__init__(generations=generations)
        self.scores, self.first_share, self.label_share = scores, first_share, label_share

    def setup(self, networks: Networks, data: Data) -> None:
        """Count the classes.

        Raises:
            ValueError: there are fewer than scores.
        """
        if self.scores > (classes := data.task.outputs):
            raise ValueError(f"method.scores is {self.scores}, but there are {classes} classes; give at most {classes}")

    def first_loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and tolerance."""
        student = networks.student(batch)
        return {"ce": self.first_share * self.label_loss(student, batch),
                "tolerance": (1 - self.first_share) * top_score_difference(student.logits, self.scores)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the generation before."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.label_share * self.label_loss(student, batch),
                "kl": (1 - self.label_share) * kl(teacher.logits, student.logits)}
