"""Adversarial network compression."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, Discriminator, size_adapter
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.methods.losses.response import logit_mse
from kdrun.methods.multi_teacher.amalgamation import student_samples
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks

Regulariser = Literal["l1", "l2", "adversarial", "none"]


class AdversarialCompression(Adversarial):
    """Learn logits, and embeddings that a discriminator takes for the teacher's, without labels (Belagiannis et al. 2018).

    The student descends the squared difference of logits and what the discriminator says of its embedding under dropout.
    The discriminator is kept from winning by a regulariser: the size of its weights, or `adversarial`, the student's
    embedding under dropout shown to it as the teacher's. Where the data set has samples without labels
    (`dataset.labelled=80`), they are what it learns from. In every step the student learns first, then the discriminator
    by the same pass.

    The paper was not at hand beyond its abstract: the losses and the order of updates are those of a third party's code, whose
    sign of the weights' size is turned here, for there a discriminator would grow; the numbers are not checked against the
    paper. Embeddings of two sizes are brought together by a linear layer of the student's. Measured on the digits (resnet8
    taught by wrn_16_2, default recipe, three seeds), without a label: 98.8 ± 0.3 % of the test set right, by Hinton's loss,
    with labels, 98.8 ± 0.2 %, the student alone 98.6 ± 0.1 %.

    Args:
        logit_weight: of the squared difference of logits, averaged over samples and classes.
        gan_weight: of the discriminator's verdict.
        dropout: of the embedding whose verdict the student descends.
        regulariser: `l1` or `l2`, the sum of the norms of the discriminator's weights; `adversarial`; or `none`.
        regulariser_weight: of that.
        widths: units of the discriminator's hidden layers.
        discriminator_lr: of its Adam.
    """

    schemes = ("offline",)
    knowledge = ("response", "feature")
    plain_logits = ""
    source = "Belagiannis, Farshad, Galasso: Adversarial network compression. ECCV workshops 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1",)

    discriminator: Discriminator
    adapter: nn.Module

    def __init__(self, *, logit_weight: NonNegative, gan_weight: NonNegative, dropout: Proportion, regulariser: Regulariser,
                 regulariser_weight: NonNegative, widths: list[AtLeastOne], discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.logit_weight, self.gan_weight, self.dropout, self.widths = logit_weight, gan_weight, dropout, widths
        self.regulariser, self.regulariser_weight = regulariser, regulariser_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the discriminator and the adapter."""
        (student,), (teacher,) = networks.student.shapes.embedding, networks.teacher.shapes.embedding
        self.discriminator = Discriminator(teacher, self.widths).to(networks.device)
        self.adapter = size_adapter(student, teacher).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, on what has no labels where there is such."""
        self.setup(run.networks, run.data)
        self.open_tally(run)
        yield Phase(data=student_samples(run))

    def beside(self) -> Sequence[nn.Module]:
        """The adapter."""
        return [self.adapter]

    def confusion(self, fake: Tensor) -> Tensor:
        """What keeps the discriminator from winning, from the embedding under dropout."""
        if self.regulariser == "adversarial":
            return gan_student(self.discriminator(fake))
        if self.regulariser == "none":
            return fake.new_zeros(())
        degree = 1 if self.regulariser == "l1" else 2
        return torch.stack([weight.norm(p=degree) for weight in self.discriminator.parameters()]).sum()

    def further(self, networks: Networks, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Further terms of the student."""
        return {}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The student, then the discriminator on constants."""
        student, teacher = networks.student(batch), networks.teacher(batch).detach()
        adapted, dropped = self.adapter(student.embedding), self.adapter(F.dropout(student.embedding, self.dropout))
        yield "student", {"mse": self.logit_weight * logit_mse(teacher.logits, student.logits, reduction="mean"),
                          "gan": self.gan_weight * gan_student(self.discriminator(dropped)),
                          **self.further(networks, student, teacher)}
        real, fake = self.discriminator(teacher.embedding), self.discriminator(adapted.detach())
        self.count(batch.epoch, real, fake)
        whose = gan_discriminator(real, fake)
        yield "discriminator", {"real": whose[0], "false": whose[1],
                                "regulariser": self.regulariser_weight * self.confusion(dropped.detach())}
