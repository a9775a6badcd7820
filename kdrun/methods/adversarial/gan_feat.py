"""Adversarial learning of portable student networks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.roles import Networks


class Critic(nn.Module):
    """Tells a teacher's embedding from a student's: [B, D] to logits [B].

    Embeddings are normalised without weights first, or their scale alone would give them away.

    Args:
        size: D.
        width: units of the hidden layer.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(size, elementwise_affine=False), nn.Linear(size, width),
                                    nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, embedding: Tensor) -> Tensor:
        """Above 0: the teacher's."""
        return self.layers(embedding).squeeze(1)


def judge(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """What the critic descends, of its logits [B] on either side: the teacher is real, the student is not."""
    return F.softplus(-teacher).mean(), F.softplus(student).mean()


def fool(student: Tensor) -> Tensor:
    """What the student descends of the critic's logits [B]: to be taken for the teacher, the form that does not saturate."""
    return F.softplus(-student).mean()


class GANFeat(Method):
    """Learn embeddings that a critic cannot tell from the teacher's, beside labels and softened answers (Wang et al. 2018).

    An approximation: the paper's mechanism (student, teacher and a "teaching assistant" that tells their features
    apart) with weights and a critic of our own choice. In every step the critic learns first, then the student by the
    same pass. Where the embeddings differ in size the student's goes through a linear adapter that learns with it.
    `critic.csv` tells of each epoch how often the critic was right: half of the times, and it no longer knows.
    On the digits (default recipe, seed 1) it stays right, so that its weight is a nudge: the student has 98.7 %, as by
    Hinton's loss, where the baseline has 98.6 %.

    Args:
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
        gan_weight: of the critic's verdict.
        width: units of the critic's hidden layer.
        critic_lr: of the critic's Adam.
    """

    knowledge = ("feature", "response")
    source = "Wang, Xu, Xu, Tao: Adversarial learning of portable student networks. AAAI 2018"
    survey_scheme = "offline"
    survey_tables: ClassVar[tuple[str, ...]] = ("Gou section 6.1",)

    critic: Critic
    adapter: nn.Module
    verdicts: Tensor

    def __init__(self, *, temperature: Positive, ce_weight: NonNegative, kd_weight: NonNegative,
                 gan_weight: NonNegative, width: AtLeastOne, critic_lr: Positive) -> None:
        super().__init__()
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight
        self.gan_weight, self.width, self.critic_lr = gan_weight, width, critic_lr

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the critic and the adapter."""
        (student,), (teacher,) = networks.student.shapes.embedding, networks.teacher.shapes.embedding
        device = networks.device
        self.critic = Critic(teacher, self.width).to(device)
        self.adapter = (nn.Identity() if student == teacher else nn.Linear(student, teacher)).to(device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """One phase, and a tally of the critic's verdicts: an epoch a row, the right ones and all of them."""
        self.setup(run.networks, run.data)
        self.register_buffer("verdicts", torch.zeros(run.recipe.epochs, 2, device=run.device))
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The critic, and the student with its adapter."""
        return {"critic": [self.critic], "student": [networks.student, self.adapter]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the critic."""
        return torch.optim.Adam(weights, lr=self.critic_lr) if player == "critic" else recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The critic on constants, then the student."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        adapted = self.adapter(student.embedding)
        for_teacher, for_student = self.critic(teacher.embedding.detach()), self.critic(adapted.detach())
        right = (for_teacher > 0).sum() + (for_student < 0).sum()
        self.verdicts[batch.epoch] += torch.stack([right, torch.full_like(right, 2 * len(batch))])
        real, false = judge(for_teacher, for_student)
        yield "critic", {"real": real, "false": false}
        yield "student", {"ce": self.ce_weight * self.label_loss(student, batch),
                          "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature),
                          "gan": self.gan_weight * fool(self.critic(adapted))}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """How often the critic was right."""
        return {"critic": [{"epoch": epoch, "accuracy": right / total}
                           for epoch, (right, total) in enumerate(self.verdicts.tolist()) if total]}
