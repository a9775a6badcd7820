"""Multi-exit networks whose exits learn from the last one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Bounds, Fraction, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.branches import exit_answers, exits_of
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.roles import Networks, Role


class MultiExit(Method):
    """Train a network with exits, each of which learns from the last one at a rising temperature (Phuong and Lampert 2019).

    The temperature rises by a factor after every step in which the last exit is surer than a threshold, at the present
    temperature, and never falls. Loss values rise with it, since a soft cross-entropy holds the entropy of its target. Every
    exit is evaluated as a network of its own; the last one is the student.

    The paper's network is an MSDNet with eleven exits. Here an exit hangs on every stage: a bottleneck to the shape of the
    last map and a classifier.

    Args:
        distill_share: of the last exit's answers in the loss; the labels have the rest.
        temperature: at the start; softens all answers.
        growth: the factor by which it rises.
        threshold: the mean of the largest probabilities above which it does.
        scale: of the mean over exits of all terms.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Phuong, Lampert: Distillation-based training for multi-exit architectures. ICCV 2019"
    survey_scheme = "self"
    survey_tables = ("Gou section 4.3",)

    exits: Sequence[Role]
    temperature: Tensor

    def __init__(self, *, distill_share: Fraction, temperature: Positive, growth: Annotated[float, Bounds(least=1)],
                 threshold: Fraction, scale: Positive) -> None:
        super().__init__()
        self.share, self.start, self.growth, self.threshold, self.scale = distill_share, temperature, growth, threshold, scale
        self.register_buffer("temperature", torch.tensor(temperature))

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the exits, and begin with the first temperature.

        Raises:
            ValueError: the student has one stage only, or does not tell its stages apart.
        """
        self.exits = exits_of(networks.student)
        self.temperature = torch.tensor(self.start, device=networks.device)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """One update, then the temperature's."""
        yield "student", self.loss(networks, batch)
        self.warm(networks.student(batch).logits)

    def warm(self, logits: Tensor) -> None:
        """Raise the temperature where the last exit's answers [M, K] are sure enough."""
        sure = (logits.detach() / self.temperature).softmax(dim=1).amax(dim=1).mean() > self.threshold
        self.temperature = torch.where(sure, self.growth * self.temperature, self.temperature)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for all exits, and the last one for the others."""
        end = networks.student(batch)
        answers = exit_answers(end, self.exits)
        hard = torch.stack([self.label_loss(answer, batch) for answer in answers]).sum()
        soft = torch.stack([soft_cross_entropy(end.logits, answer.logits, self.temperature) for answer in answers]).sum()
        scale = self.scale / (1 + len(answers))
        labels = scale * (1 - self.share)
        return {"ce": labels * self.label_loss(end, batch), "exits": labels * hard,
                "kd": scale * self.share * self.temperature.square() * soft}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and the network up to each exit."""
        return {"student": networks.student, **{leave.name: leave for leave in self.exits}}
