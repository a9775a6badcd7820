"""Be your own teacher."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.branches import exit_answers, exits_of
from kdrun.methods.losses import kl
from kdrun.models.roles import Networks, Role


def apart(deepest: Tensor, shallow: Tensor) -> Tensor:
    """The distance of two embeddings [B, D], averaged over samples, a scalar; the first is a constant."""
    return ((shallow - deepest.detach()).square().sum(dim=1) + 1e-12).sqrt().mean()


class BYOT(Method):
    """Give every stage but the last an exit of its own, taught by the network's own end (Zhang et al. 2019).

    An exit is a bottleneck to the shape of the last map, and a head. Each learns from the labels, from the softened
    answer of the end, and from its embedding; the student keeps nothing of them. Every exit is evaluated as a network
    of its own, the first stages and what hangs on them. Bottlenecks follow the conference paper in kind, not in every
    layer. The distance is averaged over samples, so that its weight does not depend on the batch size.

    Args:
        temperature: softens the answers of the end and of the exits.
        kd_weight: share of the softened answers in an exit's loss; the labels have the rest.
        hint_weight: of the distance of an exit's embedding from that of the end.
        squared: whether the softened answers are weighed by the squared temperature.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("response", "feature")
    plain_logits = ""
    source = "Zhang, Song, Gao, Chen, Bao, Ma: Be your own teacher: improve the performance of convolutional neural " \
             "networks via self distillation. ICCV 2019"
    survey_scheme = "self (Gou, section 4.3); online (Alkhulaifi)"
    survey_tables = ("Gou section 4.3", "Alkhulaifi 2")

    exits: Sequence[Role]

    def __init__(self, *, temperature: Positive, kd_weight: Fraction, hint_weight: NonNegative, squared: bool) -> None:
        super().__init__()
        self.temperature, self.kd_weight, self.hint_weight, self.squared = temperature, kd_weight, hint_weight, squared

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the exits.

        Raises:
            ValueError: the student has one stage only, or does not tell its stages apart.
        """
        self.exits = exits_of(networks.student)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for the end; for each exit the labels, the end's answer and its embedding."""
        end = networks.student(batch)
        terms = {"ce": self.label_loss(end, batch)}
        scale = self.temperature**2 if self.squared else 1.0
        answers = exit_answers(end, self.exits)
        hard = torch.stack([self.label_loss(answer, batch) for answer in answers])
        soft = torch.stack([kl(end.logits, answer.logits, self.temperature) for answer in answers])
        hint = torch.stack([apart(end.embedding, answer.embedding) for answer in answers])
        return {**terms, "exits": (1 - self.kd_weight) * hard.sum(), "kd": self.kd_weight * scale * soft.sum(),
                "hint": self.hint_weight * hint.sum()}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and the network up to each exit."""
        return {"student": networks.student, **{leave.name: leave for leave in self.exits}}
