"""What adversarial methods share: discriminators, who trains them, and how often they were right."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.methods.base import Method, Phase, Run
from kdrun.methods.losses.arithmetic import row_mean
from kdrun.models.roles import Networks

__all__ = ["Adversarial", "ClassDiscriminator", "Discriminator", "MapDiscriminator", "class_loss", "layers_of", "size_adapter"]


def layers_of(size: int, widths: Sequence[int]) -> list[nn.Module]:
    """Hidden layers of these widths on vectors [B, size], each with its activation."""
    layers: list[nn.Module] = []
    for before, after in zip((size, *widths), widths, strict=False):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return layers


def size_adapter(student: int, teacher: int) -> nn.Module:
    """What brings the student's vectors to the size of the teacher's: a linear layer, or nothing where it is the same."""
    return nn.Identity() if student == teacher else nn.Linear(student, teacher)


class Discriminator(nn.Module):
    """Tells a teacher's vectors from a student's: [B, D] to logits [B], above 0 for the teacher's.

    Args:
        size: D.
        widths: units of the hidden layers.
        normalise: whether vectors are normalised first, without weights, or their scale alone might give them away.
        outputs: how many units judge; the logits are [B, outputs] where there are several.
    """

    def __init__(self, size: int, widths: Sequence[int], *, normalise: bool = False, outputs: int = 1) -> None:
        super().__init__()
        first = [nn.LayerNorm(size, elementwise_affine=False)] if normalise else []
        self.layers = nn.Sequential(*first, *layers_of(size, widths), nn.Linear((size, *widths)[-1], outputs))

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits."""
        return self.layers(vectors).squeeze(1)


class MapDiscriminator(nn.Module):
    """Tells whose maps [B, C, H, W] it sees: logits [B], above 0 for the teacher's.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]
        self.layers, self.score = nn.Sequential(*layers), nn.Linear(channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits."""
        return self.score(self.layers(maps).mean(dim=(2, 3))).squeeze(1)


class ClassDiscriminator(nn.Module):
    """A discriminator that says the class too, by a second head (AC-GAN, Odena et al. 2017).

    Args:
        body: from what it sees to vectors [B, D].
        size: D.
        classes: K.
    """

    def __init__(self, body: nn.Module, size: int, classes: int) -> None:
        super().__init__()
        self.body, self.real, self.label = body, nn.Linear(size, 1), nn.Linear(size, classes)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B], above 0 for the teacher's, and logits of the classes [B, K]."""
        vectors = self.body(seen)
        return self.real(vectors).squeeze(1), self.label(vectors)


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of a discriminator's class logits [M, K] with the labels [M]."""
    return row_mean(F.cross_entropy(logits, labels, reduction="none"))


class Adversarial(Method):
    """A method with one discriminator or several, by an Adam of their own, beside the student.

    `discriminator.csv` says of each epoch how often they were right: half of the times, and they no longer know.

    Args:
        discriminator_lr: of that Adam; follows the recipe's schedule.
    """

    discriminator: nn.Module
    verdicts: Tensor

    def __init__(self, *, discriminator_lr: float) -> None:
        super().__init__()
        self.discriminator_lr = discriminator_lr

    def phases(self, run: Run) -> Iterator[Phase]:
        """One phase, and a tally of the verdicts."""
        self.setup(run.networks, run.data)
        self.open_tally(run)
        yield Phase()

    def open_tally(self, run: Run, epochs: int | None = None) -> None:
        """Begin to count verdicts, an epoch a row: the right ones and all of them; None for the recipe's epochs."""
        self.register_buffer("verdicts", torch.zeros(epochs or run.recipe.epochs, 2, device=run.device))

    def count(self, epoch: int, teacher: Tensor, student: Tensor) -> None:
        """Count the verdicts that a discriminator's logits of both sides are."""
        right = (teacher > 0).sum() + (student < 0).sum()
        self.verdicts[epoch] += torch.stack([right, torch.full_like(right, teacher.numel() + student.numel())])

    def beside(self) -> Sequence[nn.Module]:
        """What else learns with the student."""
        return []

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The discriminators, and the student with what learns with it."""
        return {"discriminator": [self.discriminator], "student": [networks.student, *self.beside()]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for discriminators."""
        return torch.optim.Adam(weights, lr=self.discriminator_lr) if player == "discriminator" else recipe.build(weights)

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """How often the discriminators were right."""
        return {"discriminator": [{"epoch": epoch, "accuracy": right / total}
                                  for epoch, (right, total) in enumerate(self.verdicts.tolist()) if total]}
