"""Synthetic pictures of three kinds for a student that is mostly a compressed teacher."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.data_free.compressed import compressed_student
from kdrun.methods.data_free.inverted import Inverted
from kdrun.methods.data_free.statistics import NORMALISATIONS, normalisations, statistics_kl, watched
from kdrun.models.quantization import Bits
from kdrun.models.roles import Networks


def roughness(pictures: Tensor) -> Tensor:
    """Mean squared difference between neighbouring pixels of pictures [B, C, H, W], across and down."""
    across, down = pictures[:, :, :, 1:] - pictures[:, :, :, :-1], pictures[:, :, 1:] - pictures[:, :, :-1]
    return across.square().mean() + down.square().mean()


class KnowledgeWithin(Inverted):
    """Make pictures that a teacher's normalisations take for its training data, and distill on these (Haroush et al. 2020).

    Three kinds of pictures: Gaussian noise; `inception`, which descends until the teacher is sure of a class; `bns`, whose
    statistics in front of every normalisation, as a normal distribution of each channel, are near to those that the teacher
    remembers, by KL divergence where DeepInversion has Euclidean distances. No training picture is read. The divergence
    tells as well how near any pictures are to the training data: a table of the run has it for the made ones, for noise and
    for the validation split.

    Written for a quantised copy of the teacher: `student=` the teacher's network, `method.from_teacher=true` and
    `method.bits=4`, say. Any student will do. An approximation: there is no public code, and what is not known is how the
    divergences of layers are weighed (here by their mean), all weights and budgets, and how pictures are mixed within a batch
    when the student learns (here they are augmented as the run's are). Measured on the digits (resnet8 taught by wrn_16_2,
    default recipe, seed 1): 95.2 % of the test set right, where the baseline, which has the labels, has 98.6 % and the
    teacher 99.0 %, in 6 minutes on a busy processor; the divergence of the 1,024 made pictures is 0.22, of the validation
    split 0.36, of noise 13.6.

    Args:
        pictures: `gaussian`, `inception` or `bns`. Of a copy that learns from noise the statistics stay as they are.
        batches: of pictures.
        batch_size: pictures that descend together, whose statistics are compared.
        iterations: how long they do; noise does not.
        picture_lr: of their Adam.
        momentum: of their Adam, its first beta.
        statistics_weight: of the divergence, in `bns`.
        logit_weight: of the wanted class's logit, in `inception`.
        label_weight: of the cross-entropy with the wanted class, in `bns`.
        smooth_weight: of the roughness.
        eps: added to variances.
        temperature: of the lessons.
        student_lr: of the student's Adam, without decay, by the recipe's schedule; null for the recipe's optimizer.
        from_teacher: whether the student starts from the teacher's weights.
        bits: of the student's weights; null for float32.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = "has pictures descend to large logits"
    source = "Haroush, Hubara, Hoffer, Soudry: The knowledge within: methods for data-free model compression. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6",)
    cautions: ClassVar = {
        "offline": "it was measured below the student alone, which sees samples and labels: on the digits resnet8 ended at "
                   "95.2 %, alone at 98.6 % (seed 1)"}

    def __init__(self, *, pictures: Literal["gaussian", "inception", "bns"], batches: AtLeastOne, batch_size: AtLeastOne,
                 iterations: AtLeastOne, picture_lr: Positive, momentum: Proportion, statistics_weight: NonNegative,
                 logit_weight: NonNegative, label_weight: NonNegative, smooth_weight: NonNegative, eps: Positive,
                 temperature: Positive, student_lr: Positive | None, from_teacher: bool, bits: Bits | None) -> None:
        super().__init__(rounds=1, batches=batches, batch_size=batch_size, iterations=iterations, picture_lr=picture_lr,
                         momentum=momentum, student_lr=student_lr, temperature=temperature)
        self.kind, self.eps, self.from_teacher, self.bits = pictures, eps, from_teacher, bits
        self.statistics_weight, self.logit_weight = statistics_weight, logit_weight
        self.label_weight, self.smooth_weight = label_weight, smooth_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Find the teacher's normalisations.

        Raises:
            ValueError: it has none that remembers statistics.
        """
        self.layers = normalisations(networks.teacher) if self.kind == "bns" else []

    def phases(self, run: Run) -> Iterator[Phase]:
        """The pictures, then the student, which may be a compressed teacher."""
        weights = compressed_student(run.networks, from_teacher=self.from_teacher, bits=self.bits)
        yield from super().phases(run)
        if weights is not None:
            weights.bake()

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """A batch of pictures; noise stays noise."""
        if self.kind == "gaussian":
            self.images[batch.rows] = self.stored(batch.tensor)
            return
        yield from super().step(networks, batch)

    def divergence(self, networks: Networks, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """How far pictures [B, C, H, W] are from the training data to the teacher: the mean over layers; and its logits."""
        with watched(self.layers, lambda maps, layer: statistics_kl(maps, layer, self.eps).sum()) as apart:
            logits = networks.teacher(pictures, fresh=True).logits
        return torch.stack(apart).mean(), logits

    def inversion(self, networks: Networks, pictures: Tensor, wanted: Tensor) -> Terms:
        """The divergence, or the logit."""
        terms = {"smooth": self.smooth_weight * roughness(pictures)}
        if self.kind == "inception":
            logits = networks.teacher(pictures, fresh=True).logits
            return {**terms, "logit": -self.logit_weight * logits.gather(1, wanted[:, None]).mean()}
        apart, logits = self.divergence(networks, pictures)
        return {**terms, "statistics": self.statistics_weight * apart,
                "label": self.label_weight * F.cross_entropy(logits, wanted)}

    def imitate(self, networks: Networks, batch: Batch) -> Terms:
        """The teacher's softened answers; a copy that learns from noise keeps its statistics."""
        if self.kind == "gaussian" and self.from_teacher:
            for layer in networks.student.modules():
                if isinstance(layer, NORMALISATIONS):
                    layer.eval()
        return super().imitate(networks, batch)

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The divergence of the made pictures, of noise, and of the validation split where there is one."""
        if self.kind != "bns":
            return {}
        with torch.no_grad():
            made = self.normalise(self.images)
            given = {"made": made, "noise": torch.randn(made.shape, generator=self.random).to(made.device)}
            if len(run.data.validation):
                given["validation"] = run.data.whole(run.data.validation, run.device)
            return {"statistics": [{"pictures": name, "count": len(own), "divergence": float(self.divergence(
                run.networks, own)[0])} for name, own in given.items()]}
