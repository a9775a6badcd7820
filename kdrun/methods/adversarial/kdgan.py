"""KDGAN: knowledge distillation with generative adversarial networks."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Few, Fraction, NetworkName, NonNegative, Positive, Proportion
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.adversarial.discriminators import Adversarial
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.methods.losses.response import logit_mse
from kdrun.models.roles import Networks, Role

GAME = "teacher's labels"  # the teacher as a player against the discriminator; the scheme has it learn from the labels


def drawn_labels(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Labels [B, K] drawn by a network's probabilities, relaxed so that they have a gradient: the Gumbel softmax.

    Source: Jang, Gu, Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017, equation 2.

    Args:
        logits: [B, K].
        temperature: near 0 for labels of nearly one class.
        generator: draws.
    """
    uniform = torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6).to(logits)
    return F.softmax((logits - (-uniform.log()).log()) / temperature, dim=1)


def verdict(scores: Tensor, drawn: Tensor) -> Tensor:
    """What a discriminator's scores [B, K] of a picture with each label are for drawn labels [B, K]: [B]."""
    return (scores * drawn).sum(dim=1)


class KDGAN(Adversarial):
    """Let student and teacher teach each other, and both draw labels that a discriminator takes for true (Wang et al. 2018).

    The discriminator scores a picture with each label. The student's and the teacher's labels, drawn by their probabilities
    and relaxed by a Gumbel softmax whose temperature falls, are to be taken for the true one; the student moreover learns the
    label and the teacher's logits, and the teacher the student's. All three learn from the labels alone first, for a share of
    the epochs; then each batch sees the discriminator several times, then the teacher, then the student.

    As the scheme has it the teacher goes on to learn from the labels too, which the authors' does not. Theirs alternate every
    ten or twenty epochs, over a hundred rounds, and their published code has a further form of the adversarial losses, without
    a Gumbel softmax: the logit of a drawn label regresses the discriminator's score. Measured on the digits (resnet8 and
    wrn_16_2, default recipe, three seeds): 98.6 ± 0.1 % of the test set right, as the student alone, 98.6 ± 0.1 %; the teacher
    98.6 ± 0.3 %. The discriminator cannot tell at the end.

    Args:
        balance: of the adversarial terms: the teacher's times this, the student's times the rest to 1, in the discriminator's
            loss too.
        student_weight: of what the student learns from labels and the teacher's logits.
        teacher_weight: of what the teacher learns of the student's, likewise.
        soft_share: of the logits in both; the rest is the label's.
        start_share: of the epochs that are by labels alone.
        temperature: of the Gumbel softmax at first.
        decay: what it is multiplied by every epoch.
        least: what it does not fall below.
        discriminator: its network; null for one like the student.
        discriminator_steps: of its updates a batch, each by other drawn labels.
        discriminator_lr: of its Adam, and of that by which the teacher's labels move the teacher.
    """

    schemes = ("online",)
    shares_parameters = True  # the teacher's labels move what learns from the labels too
    needs = ("one row a sample", "labels")
    knowledge = ("response",)
    plain_logits = "draws labels by its own logits"
    source = "Wang, Zhang, Sun, Qi: KDGAN: knowledge distillation with generative adversarial networks. NeurIPS 2018"
    survey_scheme = "online"
    survey_tables = ("Gou section 6.1",)

    discriminator: Role

    def __init__(self, *, balance: Fraction, student_weight: NonNegative, teacher_weight: NonNegative, soft_share: Fraction,
                 start_share: Proportion, temperature: Positive, decay: Fraction, least: Positive,
                 discriminator: NetworkName | None, discriminator_steps: Few, discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        self.balance, self.student_weight, self.teacher_weight = balance, student_weight, teacher_weight
        self.soft_share, self.start_share, self.discriminator_steps = soft_share, start_share, discriminator_steps
        self.temperature, self.decay, self.least, self.network = temperature, decay, least, discriminator
        self.starting = False

    def phases(self, run: Run) -> Iterator[Phase]:
        """The labels alone, then the three against and for each other."""
        self.setup(run.networks, run.data)
        part, factory = "discriminator", run.factory
        self.discriminator = factory.named(self.network, part) if self.network else factory.build(factory.student_spec, part)
        self.open_tally(run)
        start = min(round(self.start_share * run.recipe.epochs), run.recipe.epochs - 1)
        if start:
            self.starting = True
            yield Phase("labels alone", epochs=start)
        self.starting = False
        yield Phase(epochs=run.recipe.epochs - start)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The discriminator, the student, and the teacher against the discriminator, once it does so."""
        players = super().players(networks)
        return players if self.starting else {**players, GAME: [networks.teacher]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the discriminator and for the teacher against it."""
        return super().optimizer("discriminator" if player == GAME else player, weights, recipe)

    def warmth(self, epoch: int) -> float:
        """The temperature of an epoch."""
        return max(self.temperature * self.decay**epoch, self.least)

    def taught(self, answer: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        """What one network learns of the label and of the other's logits."""
        return (1 - self.soft_share) * labels + self.soft_share * logit_mse(other, answer, reduction="mean")

    def judge(self, batch: Batch, drawn: Tensor) -> Tensor:
        """Verdicts [B] on drawn labels [B, K]."""
        return verdict(self.discriminator(batch, fresh=True).logits, drawn)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The labels alone, or the discriminator's updates, the teacher's and the student's."""
        if self.starting:
            yield "discriminator", {"labels": self.label_loss(self.discriminator(batch, fresh=True), batch)}
            yield "student", {"ce": self.label_loss(networks.student(batch), batch)}
            return
        warmth = self.warmth(batch.epoch)
        student, teacher = networks.student(batch), networks.teacher(batch, fresh=True)  # the labels have moved it
        for _ in range(self.discriminator_steps):
            scores = self.discriminator(batch, fresh=True).logits
            true = scores.gather(1, batch.labels[:, None])[:, 0]
            fakes = [verdict(scores, drawn_labels(one.logits.detach(), warmth, self.random)) for one in (student, teacher)]
            self.count(batch.epoch, true, torch.cat(fakes))
            (real, of_student), (_, of_teacher) = (gan_discriminator(true, fake) for fake in fakes)
            yield "discriminator", {"real": real, "false": (1 - self.balance) * of_student + self.balance * of_teacher}
        student_said, teacher_said = student.logits.detach(), teacher.logits.detach()
        drawn = drawn_labels(teacher.logits, warmth, self.random)
        yield GAME, {"gan": self.balance * gan_student(self.judge(batch, drawn)),
                     "kd": self.teacher_weight * self.taught(teacher.logits, student_said, self.label_loss(teacher, batch))}
        drawn = drawn_labels(student.logits, warmth, self.random)
        yield "student", {"ce": self.student_weight * (1 - self.soft_share) * self.label_loss(student, batch),
                          "kd": self.student_weight * self.soft_share * logit_mse(teacher_said, student.logits,
                                                                                  reduction="mean"),
                          "gan": (1 - self.balance) * gan_student(self.judge(batch, drawn))}
