"""Several teachers that vote on which samples are alike."""

from typing import ClassVar

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses import kd, mixture
from kdrun.methods.losses.ordering import triplet_order
from kdrun.models.roles import Networks


def triplets(samples: int, count: int, draws: torch.Generator) -> Tensor:
    """Rows [count, 3] of three different samples, all equally probable.

    Raises:
        ValueError: there are no three samples.
    """
    if samples < 3:
        raise ValueError(f"triplets need batches of at least 3, and this one has {samples}; set a larger recipe.batch_size")
    first = torch.randint(samples, (count,), generator=draws)
    second = torch.randint(samples - 1, (count,), generator=draws)
    third = torch.randint(samples - 2, (count,), generator=draws)
    second = second + (second >= first)  # skip what is taken
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    third = third + (third >= low)
    third = third + (third >= high)
    return torch.stack([first, second, third], dim=1)


class VotingTeachers(Method):
    """Match the mean softened answer, and the order of distances on which most teachers agree (You et al. 2017).

    For triplets of a batch each teacher says which of two samples is nearer to a third; the student's embedding has to
    agree with the majority. Ties are left out. Only the order counts, so embeddings may differ in size. This is an
    approximation of the paper: the embedding before the classifier stands for its chosen hint layers, and the form of
    the hinge, on vectors of length one, is ours.

    Args:
        temperature: softens all answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft term, which holds the squared temperature.
        triplet_weight: of the hinge.
        margin: of the hinge.
        triplets: how many are drawn from a batch; null for as many as it has samples.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    knowledge = ("response", "relation")
    source = "You, Xu, Xu, Tao: Learning from multiple teacher networks. KDD 2017"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou 3", "Zhu section III-A")

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 triplet_weight: NonNegative, margin: NonNegative, triplets: AtLeastOne | None) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight
        self.triplet_weight, self.margin, self.triplets = triplet_weight, margin, triplets

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, the mean teacher, and the order of distances."""
        student, answers = networks.student(batch), [teacher(batch) for teacher in networks.teachers]
        rows = triplets(len(batch), self.triplets or len(batch), self.random).to(batch.x.device)
        wanted = mixture([answer.logits for answer in answers], self.temperature)
        broken = triplet_order([answer.embedding for answer in answers], student.embedding, rows, self.margin)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(wanted, student.logits, self.temperature),
                "triplet": self.triplet_weight * broken}
