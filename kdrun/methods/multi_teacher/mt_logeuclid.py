"""Several teachers' views of how alike samples are."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses.spectral import log_euclid
from kdrun.models.roles import Networks, evaluating
from kdrun.utils import distributed


def moved(raw: Tensor, agreements: Tensor, rate: float) -> Tensor:
    """Logits of shares [M] after one step that gives more to teachers whose pull agrees with the labels'.

    Args:
        raw: the logits before.
        agreements: how much a step along each teacher's pull lowers the label loss [M].
        rate: of the step.
    """
    shares = raw.softmax(dim=0)
    return raw + rate * shares * (agreements - (shares * agreements).sum())


class LogEuclideanTeachers(Method):
    """Find samples as alike as a weighted set of teachers does, by log-Euclidean distance (Wu et al. 2019).

    What is compared is a matrix of inner products between the embeddings of a batch, above zero and of length one, so
    networks may differ in everything. `adaptive` learns the teachers' weights as the paper does: towards teachers along
    whose pull a step of the student would lower the label loss of pictures that nobody trains on. Those are the validation
    split, so validation accuracy is slightly favourable there: a weight for each teacher is chosen on it.

    An approximation: the paper re-identifies persons and was not at hand in full. The ridge and the weight are ours; and of
    the weights' gradient through a step of the student we take the first order, the cosine of two gradients at the
    present student, with a softmax in place of a projection onto weights of sum 1.

    Args:
        weights: of the teachers: `uniform` or `adaptive`.
        rate: by which adaptive weights move.
        epsilon: added on the diagonals of the matrices.
        weight: of the distance.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    knowledge = ("relation",)
    source = "Wu, Zheng, Guo, Lai: Distilled person re-identification: towards a more scalable system. CVPR 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 3",)

    raw: Tensor
    data: Data

    def __init__(self, *, weights: Literal["uniform", "adaptive"], rate: Positive, epsilon: Positive, weight: NonNegative,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.weights, self.rate, self.epsilon = weights, rate, epsilon
        self.weight, self.ce_weight = weight, ce_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One.

        Raises:
            ValueError: there is nothing to measure adaptive weights on, or several processes measure.
        """
        if self.weights == "adaptive" and not len(run.data.validation):
            raise ValueError("method.weights=adaptive measures the teachers on the validation split, and there is none; set "
                             "dataset.validation above 0, or weights=uniform")
        if self.weights == "adaptive" and distributed.count() > 1:
            raise ValueError("method.weights=adaptive compares whole gradients, and each of several processes has a part; "
                             "give weights=uniform, or start one process")
        yield from super().phases(run)

    def setup(self, networks: Networks, data: Data) -> None:
        """Start from equal weights."""
        self.data = data
        self.register_buffer("raw", torch.zeros(len(networks.teachers), device=networks.device))

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Weigh the teachers, then labels and teachers."""
        labels = self.labels_gradient(networks, batch) if self.weights == "adaptive" else None
        student = networks.student(batch)
        apart = torch.stack([log_euclid(teacher(batch).embedding, student.embedding, self.epsilon)
                             for teacher in networks.teachers])
        if labels is not None:
            pulls = [gradient(one, networks) for one in apart]
            self.raw = moved(self.raw, torch.stack([torch.cosine_similarity(pull, labels, dim=0) for pull in pulls]), self.rate)
        yield "student", {"ce": self.ce_weight * self.label_loss(student, batch),
                          "distance": self.weight * (self.raw.softmax(dim=0) * apart).sum()}

    def labels_gradient(self, networks: Networks, batch: Batch) -> Tensor:
        """Where the label loss of as many pictures of the validation split rises, drawn anew; batch statistics stay."""
        split = self.data.validation
        rows = torch.randperm(len(split), generator=self.random)[:len(batch)]
        held_out = next(self.data.plain(split[rows], networks.device, size=len(rows)))
        with evaluating(networks.student):
            loss = self.task.label_loss(networks.student(held_out), held_out)
        return gradient(loss, networks)

    def extra_tables(self, run: Run) -> dict[str, Sequence[dict[str, object]]]:
        """The weights that the teachers ended with."""
        shares = self.raw.softmax(dim=0).tolist()
        return {"teacher_weights": [{"teacher": teacher.name, "model": teacher.model, "weight": share}
                                    for teacher, share in zip(run.networks.teachers, shares, strict=True)]}


def gradient(loss: Tensor, networks: Networks) -> Tensor:
    """The slope of a scalar over all weights of the student that learn, in one vector."""
    weights = [weight for weight in networks.student.parameters() if weight.requires_grad]
    slopes = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros_like(weight).flatten() if slope is None else slope.flatten()
                      for weight, slope in zip(weights, slopes, strict=True)])
