"""DeepInversion and Adaptive DeepInversion."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Count, NonNegative, Positive, Proportion
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.data_free.inverted import Inverted
from kdrun.methods.data_free.statistics import normalisations, statistics, watched
from kdrun.models.roles import Networks


def variation(pictures: Tensor) -> Tensor:
    """How rough pictures [B, C, H, W] are: the norms of their differences across, down and along both diagonals."""
    across = pictures[:, :, :, 1:] - pictures[:, :, :, :-1]
    down = pictures[:, :, 1:] - pictures[:, :, :-1]
    falling = pictures[:, :, 1:, 1:] - pictures[:, :, :-1, :-1]
    rising = pictures[:, :, 1:, :-1] - pictures[:, :, :-1, 1:]
    return torch.stack([torch.linalg.vector_norm(difference) for difference in (across, down, falling, rising)]).sum()


def jensen_shannon(teacher: Tensor, student: Tensor, temperature: float, form: Literal["release", "textbook"]) -> Tensor:
    """How far apart two answers are, with gradients to both.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        temperature: softens both.
        form: `textbook` is the mean divergence of either answer from their mean; `release` turns both divergences round
            and keeps probabilities within 0.01 to 0.99.
    """
    answers = [F.softmax(logits / temperature, dim=1) for logits in (teacher, student)]
    middle = (answers[0] + answers[1]) / 2
    if form == "release":
        answers, middle = [answer.clamp(0.01, 0.99) for answer in answers], middle.clamp(0.01, 0.99)
        parts = [middle * (middle.log() - answer.log()) for answer in answers]
    else:
        parts = [torch.xlogy(answer, answer) - torch.xlogy(answer, middle) for answer in answers]
    return torch.stack([part.sum(dim=1).mean() for part in parts]).mean()


def competition(teacher: Tensor, student: Tensor, temperature: float, form: Literal["release", "textbook"]) -> Tensor:
    """What draws pictures to where student and teacher disagree: 1 where they agree, least where not."""
    return 1 - jensen_shannon(teacher, student, temperature, form).clamp(0, 1)


class DeepInversion(Inverted):
    """Turn noise into pictures whose statistics the teacher's normalisation layers remember (Yin et al. 2020).

    In rounds: pictures descend until the teacher sees the wanted class in them, the batch statistics in front of every
    normalisation are those it was trained with, and they are smooth; then the student learns the teacher's softened
    answers on all pictures so far, augmented as the run's are. With `competition_weight` above 0 this is Adaptive
    DeepInversion: from the second round on pictures are drawn to where the student still disagrees. No training
    picture is read; only what belongs to the teacher: its weights, its statistics and the mean and spread it
    normalises by. The release does not train a student; here the recipe does. Measured on the digits (resnet8 taught by
    wrn_16_2, default recipe, three seeds, 90 seconds of a processor each): 95.7 ± 1.3 % of the test set right, where the
    baseline, which has the labels, has 98.6 ± 0.1 % and the teacher 99.0 ± 0.1 %. With half of the training pictures held
    out, 95.6 % of these are right, and 90.9 % with half as many pictures that are not clipped (seed 1).

    All pictures are part of every checkpoint.

    Args:
        rounds: of making pictures and learning; the recipe's epochs are shared out among them.
        batches: of pictures a round.
        batch_size: pictures that descend together, whose statistics are compared.
        iterations: how long they do.
        picture_lr: of their Adam.
        momentum: of their Adam, its first beta.
        label_weight: of the cross-entropy with the wanted class.
        statistics_weight: of the statistics.
        variation_weight: of the roughness.
        norm_weight: of the pictures' norm.
        competition_weight: of the disagreement between student and teacher.
        competition_temperature: of that disagreement.
        divergence: of that disagreement: `release`, or the `textbook` Jensen-Shannon divergence.
        jitter: pixels by which pictures are rolled at most before the teacher sees them.
        flip: whether half of the times they are mirrored too.
        clip: whether pixels are brought back after each update to what stored pictures can have, from black to white.
        temperature: when the student learns.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    source = "Yin, Molchanov, Alvarez, Li, Mallya, Hoiem, Jha, Kautz: Dreaming to distill: data-free knowledge transfer " \
             "via DeepInversion. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6",)

    def __init__(self, *, rounds: AtLeastOne, batches: AtLeastOne, batch_size: AtLeastOne, iterations: AtLeastOne,
                 picture_lr: Positive, momentum: Proportion, label_weight: NonNegative, statistics_weight: NonNegative,
                 variation_weight: NonNegative, norm_weight: NonNegative, competition_weight: NonNegative,
                 competition_temperature: Positive, divergence: Literal["release", "textbook"], jitter: Count, flip: bool,
                 clip: bool, temperature: Positive) -> None:
        if competition_weight and rounds == 1:
            raise ValueError("method.competition_weight asks for a student who knows something already; give "
                             "method.rounds=2 or more")
        super().__init__(rounds=rounds, batches=batches, batch_size=batch_size, iterations=iterations, picture_lr=picture_lr,
                         momentum=momentum, student_lr=None, temperature=temperature, clip=clip)
        self.label_weight, self.statistics_weight = label_weight, statistics_weight
        self.variation_weight, self.norm_weight = variation_weight, norm_weight
        self.competition_weight, self.divergence = competition_weight, divergence
        self.competition_temperature, self.jitter, self.flip = competition_temperature, jitter, flip

    def setup(self, networks: Networks, data: Data) -> None:
        """Find the teacher's normalisations.

        Raises:
            ValueError: it has none that remembers statistics.
        """
        self.layers = normalisations(networks.teacher) if self.statistics_weight else []

    def jittered(self, pictures: Tensor) -> Tensor:
        """Samples [B, C, H, W] rolled by a few pixels, and perhaps mirrored, all alike."""
        down, right = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=self.random).tolist()
        rolled = pictures.roll((down, right), dims=(2, 3))
        return rolled.flip(3) if self.flip and float(torch.rand((), generator=self.random)) < 0.5 else rolled

    def inversion(self, networks: Networks, pictures: Tensor, wanted: Tensor) -> Terms:
        """What pictures [B, C, H, W] of wanted classes [B] descend: a few pixels away, so that no place is special."""
        pictures = self.jittered(pictures)
        with watched(self.layers, statistics) as apart:
            logits = networks.teacher(pictures, fresh=True).logits
        terms = {"label": self.label_weight * F.cross_entropy(logits, wanted),
                 "variation": self.variation_weight * variation(pictures)}
        if apart:
            terms["statistics"] = self.statistics_weight * torch.stack(apart).sum()
        if self.norm_weight:
            terms["norm"] = self.norm_weight * torch.linalg.vector_norm(pictures)
        if self.competition_weight and self.turn:  # the first round has no student worth asking
            terms["competition"] = self.competition_weight * competition(
                logits, networks.student(pictures, fresh=True).logits, self.competition_temperature, self.divergence)
        return terms
