"""Label refinery."""

from typing import ClassVar

from kdrun.config.constraints import Few
from kdrun.data.batch import Batch
from kdrun.methods.base import Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.shapes import Generations
from kdrun.models.roles import Networks


class LabelRefinery(Generations):
    """Learn, generation after generation, from what the one before says in the labels' place (Bagherinezhad et al. 2018).

    Under `scheme=self` generation 0 learns from the labels, and nobody after it sees one; under `scheme=offline` the run's
    teacher is the first refinery. A crop of a picture gets the label of what is left of it. Unlike born-again networks no
    generation learns from labels and answers together, and there is no ensemble.

    Args:
        generations: how many are taught.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self", "offline")
    knowledge = ("response",)
    label_term = None
    plain_logits = ""
    source = "Bagherinezhad, Horton, Rastegari, Farhadi: Label refinery: improving ImageNet classification through label " \
             "progression. arXiv 1805.02641, 2018"
    survey_scheme = "self"
    survey_tables = ("Gou section 4.3",)

    def __init__(self, *, generations: Few) -> None:
        super().__init__(generations=generations)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The refined labels."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"refined": soft_cross_entropy(teacher.logits, student.logits)}
