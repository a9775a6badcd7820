"""Knowledge distillation with conditional adversarial networks."""

from collections.abc import Iterator

from torch import nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, ClassDiscriminator, class_loss, layers_of
from kdrun.methods.base import Terms
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.methods.losses.arithmetic import row_mean
from kdrun.models.dropout import dropping
from kdrun.models.roles import Networks


class ConditionalGAN(Adversarial):
    """Learn logits that a discriminator takes for the teacher's, and of the right class (Xu, Hsu and Huang 2018).

    The discriminator sees logits; one head says whose they are, the other of which class, of both networks' logits. The
    student, whose dropout stands for the noise of other generators, descends the cross-entropy with the labels, the mean
    absolute difference from the teacher's logits, and what both heads say of its own. In every step the discriminator learns
    first, then the student by the same pass.

    An approximation: the paper was not at hand beyond its abstract, so the discriminator's layers and all weights are not
    checked against it. Measured on the digits (resnet8 taught by wrn_16_2, default recipe, three seeds): 99.0 ± 0.2 % of the
    test set right, by Hinton's loss 98.8 ± 0.2 %, the student alone 98.6 ± 0.1 %; the discriminator is right 57 % of the times
    at the end.

    Args:
        l1_weight: of the absolute difference of logits.
        gan_weight: of what both heads of the discriminator say.
        dropout: the share of what the student's classifier sees that is dropped in training.
        width: units of each of the discriminator's hidden layers.
        layers: how many hidden layers it has.
        discriminator_lr: of its Adam.
    """

    schemes = ("offline",)
    needs = ("rows", "labels")
    knowledge = ("response",)
    plain_logits = "shows logits to a discriminator"
    source = "Xu, Hsu, Huang: Training shallow and thin networks for acceleration via knowledge distillation with " \
             "conditional adversarial networks. ICLR workshop 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1",)

    discriminator: ClassDiscriminator

    def __init__(self, *, l1_weight: NonNegative, gan_weight: NonNegative, dropout: Proportion, width: AtLeastOne,
                 layers: AtLeastOne, discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.l1_weight, self.gan_weight, self.dropout = l1_weight, gan_weight, dropout
        self.widths = [width] * layers

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the discriminator."""
        classes = networks.student.task.outputs
        body = nn.Sequential(*layers_of(classes, self.widths))
        self.discriminator = ClassDiscriminator(body, self.widths[-1], classes).to(networks.device)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator on constants, then the student."""
        with dropping(networks.student, self.dropout):
            student = networks.student(batch)
        own, wanted = student.logits, networks.teacher(batch).logits.detach()
        (real, of_teacher), (fake, of_student) = self.discriminator(wanted), self.discriminator(own.detach())
        self.count(batch.epoch, real, fake)
        whose = gan_discriminator(real, fake)
        yield "discriminator", {"real": whose[0], "false": whose[1], "class": class_loss(of_teacher, batch.labels)
                                + class_loss(of_student, batch.labels)}
        verdict, said = self.discriminator(own)
        yield "student", {"ce": self.label_loss(student, batch),
                          "l1": self.l1_weight * row_mean((own - wanted).abs().mean(dim=1)),
                          "gan": self.gan_weight * gan_student(verdict),
                          "class": self.gan_weight * class_loss(said, batch.labels)}
