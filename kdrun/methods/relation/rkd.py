"""Relational knowledge distillation."""

from kdrun.config.constraints import NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import unit_rows
from kdrun.methods.losses.relation import rkd_angle, rkd_distance
from kdrun.models.roles import Networks


class RKD(Method):
    """Match the distances and angles among the embeddings of a batch (Park et al. 2019, equations 8 and 10).

    Embeddings may differ in size. Means run over all pairs and triples, those of a sample with itself included. The
    paper's figure on CIFAR-100 is of this together with Hinton's term (`method=combine`).

    Args:
        distance_weight: of the distances.
        angle_weight: of the angles.
        normalised: whether embeddings are brought to length one first.
        ce_weight: of the cross-entropy with the labels.
    """

    knowledge = ("relation",)
    source = "Park, Kim, Lu, Cho: Relational knowledge distillation. CVPR 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 6", "Gou section 6.4")

    def __init__(self, *, distance_weight: NonNegative, angle_weight: NonNegative, normalised: bool,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.distance_weight, self.angle_weight, self.ce_weight = distance_weight, angle_weight, ce_weight
        self.normalised = normalised

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, distances and angles."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        pair = teacher.embedding, student.embedding
        wanted, given = map(unit_rows, pair) if self.normalised else pair
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "distance": self.distance_weight * rkd_distance(wanted, given),
                "angle": self.angle_weight * rkd_angle(wanted, given)}
