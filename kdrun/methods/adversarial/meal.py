"""Multi-model ensembles via adversarial learning."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import Adversarial, Discriminator
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.losses.adversarial import gan_discriminator, gan_student
from kdrun.methods.multi_teacher.amalgamation import student_samples
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


def aligned(maps: Tensor, length: int) -> Tensor:
    """Maps [B, C, H, W] as vectors [B, length]: their places in a row, averaged to so many or repeated, then over channels.

    Example:
        >>> aligned(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]), 2)
        tensor([[1., 5.]])
    """
    return F.adaptive_avg_pool1d(maps.flatten(2), length).mean(dim=1)


class AdversarialEnsemble(Adversarial):
    """Learn from a teacher drawn anew for each batch, by similarity and discriminators, stage by stage (Shen et al. 2019).

    Of each stage and of the logits the student descends the cross-entropy of both softmaxes and what a discriminator, one for
    all teachers, says of it; there are no labels, so samples without any (`dataset.labelled=80`) are learned from where there
    are some. Maps of any networks are brought to vectors of the same length. In every step the discriminators learn first,
    then the student by the same pass.

    In the authors' code the student and the discriminators descend one and the same loss, so that they work together, and
    activations keep the discriminators' logits from falling below 0; here the student wants to be taken for the teacher, as
    the paper has it, and logits are free. Discriminators have an Adam in place of the student's optimizer at a rate of their
    own. Measured on the digits (resnet8, default recipe, three seeds), without a label: taught by wrn_16_2 98.8 ± 0.2 % of the
    test set right, by Hinton's loss, with labels, 98.8 ± 0.2 %; taught by wrn_16_2 and resnet14 98.3 ± 0.4 %, by the mean of
    both, with labels, 98.7 ± 0.1 %; the student alone 98.6 ± 0.1 %.

    Args:
        lengths: of the vectors that maps become, stage by stage. Here and below, of networks with fewer stages the last
            numbers count.
        similarity_weights: of the cross-entropies, one for each of these stages and a last one for the logits.
        gan_weights: of the discriminators' verdicts, likewise.
        discriminator_lr: of their Adam.
    """

    schemes = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    needs = ("rows", "maps")
    knowledge = ("feature", "response")
    plain_logits = "shows logits to a discriminator"
    source = "Shen, He, Xue: MEAL: multi-model ensemble via adversarial learning. AAAI 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1",)
    cautions: ClassVar = {
        "offline": "it reads no label, and by two teachers was measured below the student alone, which reads them: on the "
                   "digits resnet8 taught by wrn_16_2 and resnet14 ended at 98.3 ± 0.4 %, alone at 98.6 ± 0.1 %; by wrn_16_2 "
                   "alone at 98.8 ± 0.2 % (three seeds)"}

    discriminator: nn.ModuleList

    def __init__(self, *, lengths: list[AtLeastOne], similarity_weights: list[NonNegative], gan_weights: list[NonNegative],
                 discriminator_lr: Positive) -> None:
        super().__init__(discriminator_lr=discriminator_lr)
        for name, weights in (("similarity_weights", similarity_weights), ("gan_weights", gan_weights)):
            if len(weights) != len(lengths) + 1:
                raise ValueError(f"{name}: {len(weights)} numbers, but lengths names {len(lengths)} stages; wanted one for "
                                 "each and one for the logits")
        self.lengths, self.similarity_weights, self.gan_weights = lengths, similarity_weights, gan_weights

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a discriminator for each stage that all networks have, counted from the last, and one for the logits."""
        stages = min(len(role.shapes.stages) for role in (networks.student, *networks.teachers))
        self.stages = min(stages, len(self.lengths))
        sizes = [*self.lengths[len(self.lengths) - self.stages:], networks.student.task.outputs]
        self.discriminator = nn.ModuleList([
            Discriminator(size, [max(size // 2, 1), max(size // 4, 1)], outputs=2) for size in sizes]).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, on what has no labels where there is such."""
        self.setup(run.networks, run.data)
        self.open_tally(run)
        yield Phase(data=student_samples(run))

    def vectors(self, output: ModelOutput) -> list[Tensor]:
        """The stages' vectors and the logits."""
        first = len(self.lengths) - self.stages
        maps = output.stages[len(output.stages) - self.stages:]
        return [*(aligned(own, length) for own, length in zip(maps, self.lengths[first:], strict=True)), output.logits]

    def weighted(self, weights: Sequence[float], losses: Sequence[Tensor]) -> Tensor:
        """The sum over stages and logits."""
        used = weights[len(weights) - len(losses):]
        return torch.stack([weight * loss for weight, loss in zip(used, losses, strict=True)]).sum()

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The discriminators on constants, then the student."""
        drawn = int(torch.randint(len(networks.teachers), (), generator=self.random))
        wanted = self.vectors(networks.teachers[drawn](batch).detach())
        own = self.vectors(networks.student(batch))
        real: list[Tensor] = []
        fake: list[Tensor] = []
        for judge, ours, theirs in zip(self.discriminator, own, wanted, strict=True):
            of_teacher, of_student = judge(theirs), judge(ours.detach())
            self.count(batch.epoch, of_teacher, of_student)
            for losses, loss in zip((real, fake), gan_discriminator(of_teacher, of_student), strict=True):
                losses.append(loss)
        yield "discriminator", {"real": self.weighted(self.gan_weights, real), "false": self.weighted(self.gan_weights, fake)}
        alike = [soft_cross_entropy(theirs, ours) for ours, theirs in zip(own, wanted, strict=True)]
        taken = [gan_student(judge(ours)) for judge, ours in zip(self.discriminator, own, strict=True)]
        yield "student", {"similarity": self.weighted(self.similarity_weights, alike),
                          "gan": self.weighted(self.gan_weights, taken)}
