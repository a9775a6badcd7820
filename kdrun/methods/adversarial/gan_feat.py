"""Adversarial learning of portable student networks."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, Discriminator, size_adapter
from kdrun.methods.base import Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.models.roles import Networks


class GANFeat(Adversarial):
    """Learn embeddings that a discriminator takes for the teacher's, beside labels and softened answers (Wang et al. 2018).

    An approximation: the paper's mechanism (student, teacher and a "teaching assistant" that tells their features
    apart) with weights and a discriminator of our own choice. In every step the discriminator learns first, then the student
    by the same pass. Where the embeddings differ in size the student's goes through a linear adapter that learns with it.
    `discriminator.csv` tells of each epoch how often it was right: half of the times, and it no longer knows.
    On the digits it stays right, so that its weight is a nudge: resnet8 taught by wrn_16_2 (default recipe, three seeds) has
    98.9 ± 0.2 % of the test set right, by Hinton's loss 98.8 ± 0.2 %, alone 98.6 ± 0.1 %.

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
        gan_weight: of the discriminator's verdict.
        width: units of the discriminator's hidden layer.
        discriminator_lr: of the discriminator's Adam.
    """

    knowledge = ("feature", "response")
    source = "Wang, Xu, Xu, Tao: Adversarial learning of portable student networks. AAAI 2018"
    survey_scheme = "offline"
    survey_tables: ClassVar[tuple[str, ...]] = ("Gou section 6.1",)

    adapter: nn.Module

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 gan_weight: NonNegative, width: AtLeastOne, discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight
        self.gan_weight, self.width = gan_weight, width

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the discriminator and the adapter."""
        (student,), (teacher,) = networks.student.shapes.embedding, networks.teacher.shapes.embedding
        self.discriminator = Discriminator(teacher, [self.width], normalise=True).to(networks.device)
        self.adapter = size_adapter(student, teacher).to(networks.device)

    def beside(self) -> Sequence[nn.Module]:
        """The adapter."""
        return [self.adapter]

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator on constants, then the student."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        adapted = self.adapter(student.embedding)
        for_teacher, for_student = self.discriminator(teacher.embedding.detach()), self.discriminator(adapted.detach())
        self.count(batch.epoch, for_teacher, for_student)
        real, false = gan_discriminator(for_teacher, for_student)
        yield "discriminator", {"real": real, "false": false}
        yield "student", {"ce": self.ce_weight * self.label_loss(student, batch),
                          "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature),
                          "gan": self.gan_weight * gan_student(self.discriminator(adapted))}
