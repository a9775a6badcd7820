"""Self-knowledge distillation from the vectors of the classes."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import Fraction, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses.arithmetic import row_mean
from kdrun.models.roles import Networks


def squared_distances(embedding: Tensor, classes: Tensor) -> Tensor:
    """From each embedding [B, D] to the vector of each class [K, D]: [B, K]."""
    return (embedding[:, None] - classes).square().sum(dim=2)


class EmbeddingSKD(Method):
    """Soften the label by how near each class's vector is to the sample's embedding (Hahn and Choi 2019).

    The vector of a class is its row of the classifier. Its share of the target falls with the squared distance like a
    normal density, whose variance is the running mean of these distances. The target gets no gradient. Its weight is 0 for
    the first part of the training, when distances say nothing yet, and grows linearly afterwards.

    An approximation, and of a method for words: the abstract says that targets come from the embedding below the softmax;
    this closed form, its variance and the weights are ours. (The paper approximates its targets for tens of thousands of
    words; that many classes are no case here.)

    Args:
        weight: of the target in the last epoch; the label has the rest.
        start_share: of the epochs that are by the labels alone.
        momentum: of the running mean of the distances.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("one row a sample",)
    knowledge = ("response",)
    plain_logits = "makes its target of embeddings"
    source = "Hahn, Choi: Self-knowledge distillation in natural language processing. RANLP 2019"
    survey_scheme = "self"
    survey_tables = ("Gou section 4.3",)

    variance: Tensor  # 0 before the first batch

    def __init__(self, *, weight: Fraction, start_share: Proportion, momentum: Proportion) -> None:
        super().__init__()
        self.weight, self.start_share, self.momentum = weight, start_share, momentum

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin with no distance.

        Raises:
            ValueError: the student's logits are no linear layer of its embedding.
        """
        self.classifier = networks.student.classifier
        self.register_buffer("variance", torch.zeros((), device=networks.device))

    def share(self, epoch: int, epochs: int) -> float:
        """Of the target, in an epoch of so many."""
        done = (epoch + 1) / epochs
        return self.weight * max(done - self.start_share, 0.0) / (1 - self.start_share)

    def target(self, embedding: Tensor, classes: Tensor) -> Tensor:
        """Probabilities [B, K], from the distances and their running mean, which this moves."""
        far = squared_distances(embedding.detach(), classes.detach())
        mean = far.mean()
        self.variance = torch.where(self.variance > 0, self.momentum * self.variance + (1 - self.momentum) * mean, mean)
        return F.softmax(-far / (2 * self.variance).clamp_min(1e-12), dim=1)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the target."""
        student, share = networks.student(batch), self.share(batch.epoch, batch.epochs)
        classes = networks.student.network.get_submodule(self.classifier).get_parameter("weight")
        target = self.target(student.embedding, classes)
        soft = -row_mean((target * F.log_softmax(student.logits, dim=1)).sum(dim=1))
        return {"ce": (1 - share) * self.label_loss(student, batch), "embedding": share * soft}
