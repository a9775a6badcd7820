"""Knowledge transfer adversarial networks."""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, MapDiscriminator
from kdrun.methods.base import Terms
from kdrun.methods.feature.simkd import pooled_classifier
from kdrun.methods.losses import kd, same_size
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.models.roles import Networks


class TransferAdversarial(Adversarial):
    """Regress the teacher's last map, brought to the student's channels, under a discriminator of maps (Liu et al. 2020).

    A teacher-to-student layer leads from the teacher's last map to one as wide as the student's. It learns that the student's
    classifier, as it is, tells the classes from it; without that it could make it easy for the student and become 0. The
    student learns from labels, softened answers, the squared distance of its last map from that one and the discriminator,
    which sees what lies beside what in both. In every step the discriminator learns first, then the student by the same pass.
    Of two sizes of maps the larger is averaged down.

    An approximation: the paper was not at hand beyond its abstract, so the layers of both additions and all weights are not
    checked against it. Measured on the digits (resnet8 taught by wrn_16_2, default recipe, three seeds): 99.0 ± 0.3 % of the
    test set right, by Hinton's loss 98.8 ± 0.2 %, the student alone 98.6 ± 0.1 %; the discriminator is never mistaken at the
    end, so that its weight is a nudge.

    Args:
        temperature: softens both answers.
        kd_weight: of the softened answers.
        map_weight: of the squared distance of maps.
        gan_weight: of the discriminator's verdict.
        discriminator_lr: of its Adam.
    """

    schemes = ("offline",)
    needs = ("maps", "pictures", "one row a sample", "labels")
    knowledge = ("feature", "response")
    source = "Liu, Liu, Ma, Mei, Seok: KTAN: knowledge transfer adversarial network. IJCNN 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1",)

    discriminator: MapDiscriminator
    transfer: nn.Module

    def __init__(self, *, temperature: Positive, kd_weight: NonNegative, map_weight: NonNegative, gan_weight: NonNegative,
                 discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.temperature, self.kd_weight, self.map_weight, self.gan_weight = temperature, kd_weight, map_weight, gan_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the teacher-to-student layer and the discriminator."""
        pooled_classifier(networks.student)  # refused where it sees something else
        self.classifier = networks.student.classifier  # its name: the layer itself is the student's alone
        own, wanted = networks.student.shapes.stages[-1][0], networks.teacher.shapes.stages[-1][0]
        self.discriminator = MapDiscriminator(own).to(networks.device)
        self.transfer = nn.Sequential(nn.Conv2d(wanted, own, 1, bias=False), nn.BatchNorm2d(own), nn.ReLU()).to(networks.device)

    def beside(self) -> Sequence[nn.Module]:
        """The teacher-to-student layer."""
        return [self.transfer]

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator on constants, then the student and the layer."""
        student, teacher = networks.student(batch), networks.teacher(batch).detach()
        transferred = self.transfer(teacher.stages[-1])
        own, wanted = same_size(student.stages[-1], transferred.detach())
        real, fake = self.discriminator(wanted), self.discriminator(own.detach())
        self.count(batch.epoch, real, fake)
        whose = gan_discriminator(real, fake)
        yield "discriminator", {"real": whose[0], "false": whose[1]}
        layer = networks.student.network.get_submodule(self.classifier)
        constants = {name: weight.detach() for name, weight in layer.named_parameters()}
        said = functional_call(layer, constants, (transferred.mean(dim=(2, 3)),))
        yield "student", {"ce": self.label_loss(student, batch),
                          "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature),
                          "maps": self.map_weight * F.mse_loss(own, wanted),
                          "gan": self.gan_weight * gan_student(self.discriminator(own)),
                          "transfer": self.label_loss(student.replace(logits=said), batch)}
