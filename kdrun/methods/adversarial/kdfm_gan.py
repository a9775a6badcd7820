"""Knowledge distillation with feature maps and a discriminator."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, MapDiscriminator
from kdrun.methods.base import Terms
from kdrun.methods.feature.simkd import ReusedClassifier, ReusedHead, reused_head
from kdrun.methods.losses import same_size
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.models.roles import Networks


class SharedClassifierGAN(Adversarial):
    """Share the teacher's classifier, and make maps for it that a discriminator takes for the teacher's (Chen et al. 2018).

    A convolution of one place leads from the student's last map to one like the teacher's; the teacher's classifier, which
    stays as it is, answers from its mean. Both descend the cross-entropy of that answer with the labels, the squared
    distance of the maps and what the discriminator says; in the first epochs the distance alone. What is evaluated, counted
    and stored is the student without its own classifier, with the convolution and the teacher's classifier. Of two sizes of
    maps the larger is averaged down. In every step the discriminator learns first, then the student by the same pass.

    An approximation: the paper was not at hand beyond its abstract, so the discriminator's layers and all weights are not
    checked against it. Measured on the digits (resnet8 taught by wrn_16_2, default recipe, three seeds): 98.7 ± 0.2 % of the
    test set right, SimKD, which shares the classifier too, 98.3 ± 0.3 %, the student alone 98.6 ± 0.1 %; the discriminator is
    never mistaken at the end, so that its weight is a nudge.

    Args:
        map_weight: of the squared distance of maps.
        gan_weight: of the discriminator's verdict.
        start_share: of the epochs that are by the distance alone.
        discriminator_lr: of the discriminator's Adam.
    """

    schemes = ("offline",)
    rebuilds_student = True
    needs = ("maps", "pictures", "one row a sample", "labels")
    label_term = None
    knowledge = ("feature",)
    source = "Chen, Chang, Lu, Lee: Knowledge distillation with feature maps for image classification. ACCV 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 8.1",)

    discriminator: MapDiscriminator
    head: ReusedHead

    def __init__(self, *, map_weight: NonNegative, gan_weight: NonNegative, start_share: Fraction,
                 discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.map_weight, self.gan_weight, self.start_share = map_weight, gan_weight, start_share

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the convolution and the discriminator, and take over the classifier."""
        self.head = reused_head(networks, factor=None)
        self.discriminator = MapDiscriminator(self.head.classifier.in_features).to(networks.device)

    def beside(self) -> Sequence[nn.Module]:
        """The convolution; the classifier does not learn."""
        return [self.head]

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator on constants, then the student; at first the student alone."""
        answer = self.head(networks.student(batch))
        own, wanted = same_size(answer.stages[-1], networks.teacher(batch).stages[-1].detach())
        terms = {"maps": self.map_weight * F.mse_loss(own, wanted)}
        if batch.epoch >= round(self.start_share * batch.epochs):
            real, fake = self.discriminator(wanted), self.discriminator(own.detach())
            self.count(batch.epoch, real, fake)
            whose = gan_discriminator(real, fake)
            yield "discriminator", {"real": whose[0], "false": whose[1]}
            terms |= {"ce": self.label_loss(answer, batch), "gan": self.gan_weight * gan_student(self.discriminator(own))}
        yield "student", terms

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student with its convolution and the teacher's classifier."""
        return {"student": ReusedClassifier(copy.deepcopy(networks.student), copy.deepcopy(self.head))}
