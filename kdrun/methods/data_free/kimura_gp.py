"""A Gaussian process teaches a network by pseudo pictures, from few labels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.methods.losses import kl
from kdrun.models.roles import Networks


def starting(pictures: Tensor, count: int, mode: str, noise: float, draws: torch.Generator) -> Tensor:
    """Pseudo pictures to begin with.

    Args:
        pictures: the labelled ones [N, C, H, W].
        count: how many to make, P.
        mode: `noise` copies labelled pictures; `mixture` takes a random point between two of them.
        noise: spread of what is added to each value.
        draws: of what is random, on the CPU.

    Returns:
        [P, C, H, W].
    """
    place, shape = pictures.device, (count, *pictures.shape[1:])
    first, second = (torch.randint(len(pictures), (count,), generator=draws).to(place) for _ in range(2))
    share = torch.rand(count, 1, 1, 1, generator=draws).to(place)
    made = pictures[first] if mode == "noise" else share * pictures[first] + (1 - share) * pictures[second]
    return (made + noise * torch.randn(shape, generator=draws).to(place)).contiguous()


class Pseudo(nn.Module):
    """Pictures that learn."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = nn.Parameter(pictures.clone())


class KimuraGP(Method):
    """Imitate a Gaussian process on pseudo pictures that learn along, where labels are few (Kimura et al. 2018).

    Teacher and student see the same few labels: give `dataset.train_limit`; baseline and teacher are trained on no more
    either. The teacher is `teacher=gp`, but any that can be differentiated in its pictures will do. Each step fits the
    student to the labels and to the teacher's answers about some pseudo pictures, which then move along the gradient of
    that same divergence with both models fixed. An approximation: only the paper's abstract was at hand, which says that
    pseudo pictures are optimised as inducing points are; which way they move, how many there are and all weights are
    settings. The size of a Gaussian process is not defined, so neither are the measures that need it.

    Args:
        pseudo: how many pseudo pictures.
        pseudo_batch: how many of them a step sees.
        start: `mixture` of two labelled pictures, or `noise` on one.
        noise: spread of what is added to them at the start, in the unit of normalised pictures.
        direction: `min` moves them to where both models agree, `max` to where they do not.
        pseudo_lr: of the pseudo pictures, by Adam, at its height.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the divergence.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    label_term = None  # labelled and pseudo pictures share one pass, and its batch statistics
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("response",)
    plain_logits = "meets labels and pseudo pictures in one pass"
    source = "Kimura, Ghahramani, Takeuchi, Iwata, Ueda: Few-shot learning of neural networks from scratch by pseudo " \
             "example optimization. BMVC 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6", "Alkhulaifi 1")

    generator: torch.Generator

    def __init__(self, *, pseudo: AtLeastOne, pseudo_batch: AtLeastOne, start: Literal["mixture", "noise"],
                 noise: NonNegative, direction: Literal["min", "max"], pseudo_lr: Positive, ce_weight: NonNegative,
                 kd_weight: NonNegative) -> None:
        super().__init__()
        self.count, self.seen, self.start, self.noise, self.direction = pseudo, pseudo_batch, start, noise, direction
        self.pseudo_lr, self.ce_weight, self.kd_weight = pseudo_lr, ce_weight, kd_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Make the first pseudo pictures.

        Raises:
            ValueError: fewer of them than a step wants, or a teacher that cannot be differentiated in its pictures.
        """
        if self.seen > self.count:
            raise ValueError(f"method.pseudo_batch is {self.seen}, but there are {self.count} pseudo pictures")
        place = networks.device
        with torch.enable_grad():
            asked = torch.zeros(2, *data.shape, device=place, requires_grad=True)
            if not networks.teacher(asked, fresh=True).logits.requires_grad:
                raise ValueError(f"the teacher {networks.teacher.model} cannot be differentiated in its pictures; give "
                                 "teacher=gp")
        networks.teacher.forget()
        self.pseudo = Pseudo(starting(data.whole(data.train, place), self.count, self.start, self.noise, self.random))

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student and the pseudo pictures."""
        return {"student": [networks.student], "pseudo": [self.pseudo]}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Fit the student; then move the pseudo pictures that it was fitted to."""
        rows = torch.randperm(self.count, generator=self.random)[:self.seen].to(batch.x.device)
        pictures = self.pseudo.pictures[rows]
        # one pass for both kinds, so that batch statistics are those of all that the student learns from
        own = networks.student(torch.cat([batch.pictures, pictures.detach()])).logits
        ce = F.cross_entropy(own[:len(batch)], batch.labels, label_smoothing=self.label_smoothing)
        target = networks.teacher(pictures).logits
        yield "student", {"ce": self.ce_weight * ce,
                          "kd": self.kd_weight * kl(target.detach(), own[len(batch):])}
        networks.student.eval()  # fixed, its batch statistics too
        apart = kl(target, networks.student(pictures, fresh=True).logits, train_teacher=True)
        networks.student.train()
        yield "pseudo", {"divergence": apart if self.direction == "min" else -apart}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's for the student; no decay for pictures."""
        return torch.optim.Adam(weights, lr=self.pseudo_lr) if player == "pseudo" else recipe.build(weights)
