"""Learning metrics from teachers."""

from typing import Literal

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.relation import mlkd_absolute, mlkd_relative
from kdrun.models.roles import Networks


class MLKD(Method):
    """Match the distances among the embeddings of a batch, or the embeddings themselves (Yu et al. 2019).

    Distances are compared as they are, not relative to their mean as in `rkd`, so the student's embedding takes over the
    teacher's scale. The paper learns embeddings by triplets and retrieves by them; here the label loss of the task stands in
    their place, cross-entropy for a classifier, and the embedding is what the classifier sees.

    Args:
        relative_weight: of the difference of distances; embeddings may differ in size.
        reduction: of that: `fro` is the paper's Frobenius norm, which grows with the batch; `mse` the mean square.
        absolute_weight: of the mean distance of a sample's two embeddings, which then have to be of one size.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = ("relation",)
    source = "Yu, Yazici, Liu, van de Weijer, Cheng, Ramisa: Learning metrics from teachers: compact networks for image " \
             "embedding. CVPR 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 2",)

    def __init__(self, *, relative_weight: NonNegative, reduction: Literal["fro", "mse"], absolute_weight: NonNegative,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.relative_weight, self.reduction = relative_weight, reduction
        self.absolute_weight, self.ce_weight = absolute_weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Check the sizes of the embeddings, where it matters.

        Raises:
            ValueError: they differ.
        """
        student, teacher = networks.student.shapes.embedding[0], networks.teacher.shapes.embedding[0]
        if self.absolute_weight and student != teacher:
            raise ValueError(f"method.absolute_weight={self.absolute_weight:g} compares embeddings of one size, but the "
                             f"student's has {student} numbers and the teacher's {teacher}; give 0")

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, distances and embeddings."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        pair = teacher.embedding, student.embedding
        terms = {"ce": self.ce_weight * self.label_loss(student, batch),
                 "relative": self.relative_weight * mlkd_relative(*pair, self.reduction)}
        return terms if not self.absolute_weight else terms | {"absolute": self.absolute_weight * mlkd_absolute(*pair)}
