"""Teacher-student compression with generative adversarial networks."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Fraction, Positive, Proportion
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, ClassDiscriminator, class_loss
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.methods.losses.response import logit_mse
from kdrun.models.generator import Generator
from kdrun.models.roles import Networks


def picture_body(shape: Sequence[int], width: int, dropout: float) -> tuple[nn.Module, int]:
    """Three convolutions of a stride of 2 on pictures [B, C, H, W], and how large the vectors are that come out."""
    channels, *sides = shape
    layers: list[nn.Module] = []
    for wide in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(channels, wide, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        channels, sides = wide, [math.ceil(side / 2) for side in sides]
    return nn.Sequential(*layers, nn.Flatten()), channels * math.prod(sides)


class GANCompression(Adversarial):
    """Regress the teacher's logits on training pictures and on those of a class-conditional generator (Liu et al. 2018).

    First an AC-GAN learns from the training split: a generator of noise and a label, and a discriminator that says whether a
    picture is of the split and which class it is. Then whole batches are generated ones by chance, made anew each time with
    labels drawn evenly, and real ones otherwise; the student descends half the squared distance of logits, summed over
    classes, whatever the batch, and reads no label. Generated pictures are normalised as real ones are.

    The authors take a generator that was trained elsewhere (on the training split too); here it is a phase of the method, at
    epochs of its own beyond the recipe's. Measured once on the digits (resnet8 taught by wrn_16_2, default recipe, seed 1):
    98.2 % of the test set right, the student alone 98.6 %; nothing of this was chosen by validation.

    Args:
        fake_share: the chance of a batch to be generated.
        noise: numbers that a picture is made of, beside its label.
        width: channels of the generator's first maps, and of the discriminator's last.
        eps: added to the variance in the generator's two inner normalisations.
        dropout: of the discriminator's maps.
        generator_epochs: how long the generator learns.
        generator_lr: of its Adam, whose first moment decays by half as in most generators' trainings.
        discriminator_lr: of the discriminator's, likewise.
    """

    schemes = ("offline",)
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("response",)
    plain_logits = "trains a generator first, which is no network that answers with logits"
    source = "Liu, Fusi, Mackey: Teacher-student compression with generative adversarial networks. arXiv 1812.02271, 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1",)

    discriminator: ClassDiscriminator
    generator: Generator

    def __init__(self, *, fake_share: Fraction, noise: AtLeastOne, width: AtLeastOne, eps: Positive,
                 dropout: Proportion, generator_epochs: AtLeastOne, generator_lr: Positive, discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.fake_share, self.noise, self.width, self.eps, self.dropout = fake_share, noise, width, eps, dropout
        self.generator_epochs, self.generator_lr = generator_epochs, generator_lr
        self.generating = False

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the generator and its discriminator."""
        classes = networks.student.task.outputs
        self.generator = Generator(noise=self.noise, shape=data.shape, width=self.width, ending="tanh", eps=self.eps,
                                   classes=classes).to(networks.device)
        body, size = picture_body(data.shape, max(self.width // 4, 1), self.dropout)
        self.discriminator = ClassDiscriminator(body, size, classes).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The generator, where one is asked for, then the student."""
        self.setup(run.networks, run.data)
        self.open_tally(run, self.generator_epochs)
        if self.fake_share:
            self.generating = True
            yield Phase("generator", epochs=self.generator_epochs, evaluate=False)
        self.generating = False
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Generator and discriminator, or the student."""
        return {"discriminator": [self.discriminator], "generator": [self.generator]} if self.generating else \
            {"student": [networks.student]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for generator and discriminator."""
        lr = {"discriminator": self.discriminator_lr, "generator": self.generator_lr}.get(player)
        return recipe.build(weights) if lr is None else torch.optim.Adam(weights, lr=lr, betas=(0.5, 0.999))

    def generated(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As many pictures as a batch has, and their labels."""
        noise = torch.randn(len(batch), self.noise, generator=self.random)
        labels = torch.randint(self.generator.classes, (len(batch),), generator=self.random).to(batch.pictures.device)
        return self.generator(noise.to(batch.pictures.device), labels), labels

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator and the generator, or the student on whichever pictures the chance has."""
        if self.generating:
            yield from self.generator_step(batch)
            return
        asked: Batch | Tensor = batch
        if float(torch.rand((), generator=self.random)) < self.fake_share:
            with torch.no_grad():
                asked, _ = self.generated(batch)
        yield "student", {"mse": logit_mse(networks.teacher(asked).logits, networks.student(asked).logits)}

    def generator_step(self, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminator on constants, then the generator by the same pictures."""
        pictures, labels = self.generated(batch)
        (real, of_real), (fake, of_fake) = self.discriminator(batch.pictures), self.discriminator(pictures.detach())
        self.count(batch.epoch, real, fake)
        whose = gan_discriminator(real, fake)
        yield "discriminator", {"real": whose[0], "false": whose[1],
                                "class": class_loss(of_real, batch.labels) + class_loss(of_fake, labels)}
        verdict, said = self.discriminator(pictures)
        yield "generator", {"gan": gan_student(verdict), "class": class_loss(said, labels)}
