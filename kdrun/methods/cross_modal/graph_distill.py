"""Graph distillation over modalities."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks

Metric = Literal["cosine", "l1", "l2"]


def apart(metric: Metric, student: Tensor, teacher: Tensor) -> Tensor:
    """How far rows [B, D] of the student's are from the teacher's, [B]."""
    if metric == "cosine":
        return 1 - F.cosine_similarity(student, teacher.detach(), dim=1)
    difference = student - teacher.detach()
    return difference.square().sum(dim=1) if metric == "l2" else difference.abs().sum(dim=1)


class EdgeKernel(nn.Module):
    """The weights of the edges from other modalities to the student's, sample by sample.

    Args:
        classes: of the logits.
        sizes: of the embeddings: the student's, then each teacher's; those of one size share their layer.
        width: of what logits and embeddings each become.
        scale: of what the softmax sees.
    """

    def __init__(self, classes: int, sizes: Sequence[int], width: int, scale: float) -> None:
        super().__init__()
        self.scale, self.sizes = scale, list(sizes)
        self.of_logits = nn.Linear(classes, width)
        self.of_embeddings = nn.ModuleDict({str(size): nn.Linear(size, width) for size in dict.fromkeys(sizes)})
        self.edge = nn.Linear(4 * width, 1)

    def vector(self, answer: ModelOutput) -> Tensor:
        """What an edge sees of a network's answer, [B, 2 * width]."""
        embedding = self.of_embeddings[str(answer.embedding.shape[1])](answer.embedding)
        return torch.cat([self.of_logits(answer.logits), embedding], dim=1)

    def forward(self, student: ModelOutput, teachers: Sequence[ModelOutput]) -> Tensor:
        """The weights [teachers, B], which sum to 1 over the teachers."""
        own = self.vector(student)
        scores = [self.edge(torch.cat([own, self.vector(teacher.detach())], dim=1))[:, 0] for teacher in teachers]
        return (self.scale * torch.stack(scores)).softmax(dim=0)


class GraphDistillation(Method):
    """Learn from networks of other modalities, each by an edge that weighs it for each sample (Luo et al. 2018).

    Every teacher sees a modality of its own (`dataset=views`). The weight of an edge is a softmax over the teachers of what a
    small network says of both ends' logits and embeddings; the mean weights of a batch are drawn to a prior. The student
    descends the labels and the distances of its logits and embedding from each teacher's, weighted by edge plus prior, so that
    all weights of a sample sum to 2. Tested is the student alone, on its modality.

    As in the authors' code, edges depend on what the student says without a barrier to gradients, so that the student may lower
    its loss by moving them (`detach_edges` does away with that). There all networks are of one width; here an embedding of
    another size than a teacher's is met by a linear layer. Teachers stay in evaluation mode, which the release leaves out.

    On the digits (resnet8 on left halves, taught by resnet8 on pictures and on edges, seed 1 alone) the student has 90.3 %, as
    the baseline's 90.1 %; with the authors' weight of logits, 10, it has 86.3 %.

    Args:
        width: of what edges see of logits, and of embeddings.
        scale: alpha, of what the softmax over the edges sees.
        prior: one number a teacher, of which a softmax makes the prior; null for equal ones.
        prior_temperature: of that softmax.
        prior_weight: of the squared distance of mean weights from the prior.
        logit_weight: of the distance of logits.
        embedding_weight: of that of embeddings.
        metric: of both distances: cosine, or a sum over the features (l1, l2).
        detach_edges: whether edges are a constant to the student.
    """

    teachers: ClassVar[Teachers] = "many"
    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("one row a sample",)
    knowledge = ("response", "feature")
    structural = True
    source = "Luo, Hsieh, Jiang, Niebles, Fei-Fei: Graph distillation for action detection with privileged modalities. " \
             "ECCV 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 6.4",)

    kernel: EdgeKernel
    adapters: nn.ModuleList
    priors: Tensor

    def __init__(self, *, width: AtLeastOne, scale: Positive, prior: list[NonNegative] | None, prior_temperature: Positive,
                 prior_weight: NonNegative, logit_weight: NonNegative, embedding_weight: NonNegative, metric: Metric,
                 detach_edges: bool) -> None:
        super().__init__()
        self.width, self.scale, self.prior, self.prior_temperature = width, scale, prior, prior_temperature
        self.prior_weight, self.logit_weight, self.embedding_weight = prior_weight, logit_weight, embedding_weight
        self.metric, self.detach_edges = metric, detach_edges

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the edges, and what meets embeddings of other sizes.

        Raises:
            ValueError: there are not as many numbers in the prior as teachers.
        """
        count = len(networks.teachers)
        if self.prior is not None and len(self.prior) != count:
            raise ValueError(f"method.prior has {len(self.prior)} numbers for {count} teachers; give one for each, or null")
        (own,), others = networks.student.shapes.embedding, [teacher.shapes.embedding[0] for teacher in networks.teachers]
        self.kernel = EdgeKernel(networks.student.shapes.logits[0], [own, *others], self.width, self.scale)
        self.adapters = nn.ModuleList(nn.Identity() if size == own else nn.Linear(own, size) for size in others)
        self.register_buffer("priors", (torch.tensor(self.prior or [1.0] * count) / self.prior_temperature).softmax(dim=0))
        self.to(networks.device)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, edges and distances."""
        student, teachers = networks.student(batch), [teacher(batch) for teacher in networks.teachers]
        edges = self.kernel(student.detach() if self.detach_edges else student, teachers)
        weights = edges + self.priors[:, None]
        logits = [apart(self.metric, student.logits, teacher.logits) for teacher in teachers]
        embeddings = [apart(self.metric, adapter(student.embedding), teacher.embedding)
                      for adapter, teacher in zip(self.adapters, teachers, strict=True)]
        return {"ce": self.label_loss(student, batch),
                "edges": self.prior_weight * (edges.mean(dim=1) - self.priors).square().sum(),
                "logits": self.logit_weight * (weights * torch.stack(logits)).mean(dim=1).sum(),
                "embeddings": self.embedding_weight * (weights * torch.stack(embeddings)).mean(dim=1).sum()}
