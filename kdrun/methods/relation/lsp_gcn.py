"""Local structure preserving."""

from kdrun.config.constraints import AtLeastOne, Fraction, NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses.graph import NodeKernel, local_structure, nearest
from kdrun.models.roles import Networks


class LocalStructure(Method):
    """Match how near each sample is to its neighbours, as a distribution over these (Yang et al. 2020).

    The paper teaches a graph network, whose graph says who the neighbours are. Pictures have none; an approximation: the
    neighbours of a sample are those of its batch whose embeddings are nearest to its own in the teacher. Embeddings may
    differ in size. The divergence is that of the student's structure from the teacher's, as in the authors' code.

    Args:
        neighbours: of each sample; all others of its batch where these are fewer.
        kernel: how near two samples are: `rbf`, `laplacian` (the authors' code, nearly flat), `squared` or `linear`.
        weight: of the divergence, averaged over samples.
        share: of the training, from its start, in which the divergence counts; the authors' code stops it early.
    """

    needs = ("one row a sample",)
    knowledge = ("relation",)
    structural = True
    source = "Yang, Qiu, Song, Tao, Wang: Distilling knowledge from graph convolutional networks. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.4",)

    def __init__(self, *, neighbours: AtLeastOne, kernel: NodeKernel, weight: NonNegative, share: Fraction) -> None:
        super().__init__()
        self.neighbours, self.kernel, self.weight, self.share = neighbours, kernel, weight, share

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, and the structures while they count."""
        student = networks.student(batch)
        terms = {"ce": self.label_loss(student, batch)}
        if batch.epoch >= self.share * batch.epochs:
            return terms
        teacher = networks.teacher(batch).embedding
        neighbours = nearest(teacher, min(self.neighbours, len(teacher) - 1))
        return {**terms, "structure": self.weight * local_structure(teacher, student.embedding, neighbours, self.kernel)}
