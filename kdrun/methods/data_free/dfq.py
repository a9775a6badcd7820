"""Data-free network quantisation by adversarial distillation."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative, Positive, Turns
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.data_free.compressed import compressed_student
from kdrun.methods.data_free.dafl import balance, one_hot
from kdrun.methods.data_free.generated import Generated
from kdrun.methods.data_free.statistics import normalisations, statistics, statistics_kl, watched
from kdrun.methods.losses import kd, kl
from kdrun.models.quantization import Bits
from kdrun.models.roles import Networks


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of answers, from logits [B, K]."""
    answers = logits.log_softmax(dim=1)
    return -(answers.exp() * answers).sum(dim=1).mean()


class DFQ(Generated):
    """Let a generator look for pictures where teacher and student disagree, near to the training data (Choi et al. 2020).

    No training picture is read. The generator ascends the divergence between both answers, and is held by three terms: batch
    statistics in front of the teacher's normalisations as those remember them, a teacher that is sure of every picture, and
    classes that all appear alike. The student learns on fresh pictures. It may be a quantised copy of the teacher, which is
    what the paper is about: `student=` the teacher's network, `method.from_teacher=true`, `method.bits=4`.

    An approximation: numbers and both alternative forms are those of the benchmark of CMI's authors (`norm` and `one_hot`);
    the paper has the KL divergence of normal distributions and the entropy (`kl`, `entropy`), several generators and
    students, and other weights, which are not known here. Quantisers are linear, of each layer between its extremes.

    Measured on the digits (resnet8 taught by wrn_16_2, default recipe, seed 1): 94.8 % of the test set right, where the
    baseline, which has the labels, has 98.6 % and the teacher 99.0 %, in 16 minutes on a busy processor. Students of few bits
    and copies were not measured.

    Args:
        noise: numbers that a picture is made of.
        width: channels of the generator's first maps.
        batch_size: pictures an update.
        steps: turns an epoch.
        generator_lr: of the generator's Adam.
        student_lr: of the student's Adam; null for the recipe's optimizer.
        student_steps: updates of the student, each on new pictures, for each of the generator.
        warm_up: epochs in which the generator learns alone, without the student's part.
        temperature: of the student's lessons.
        adversarial_weight: of the disagreement.
        statistics_weight: of the statistics.
        certainty_weight: of the certainty.
        balance_weight: of the balance of classes.
        distance: of the statistics: `norm`, Euclidean; `kl`, of normal distributions, summed over channels and layers.
        certainty: `one_hot`, the cross-entropy with the teacher's own class; `entropy`, of its answers.
        from_teacher: whether the student starts from the teacher's weights.
        bits: of the student's weights; null for float32.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures", "one row a sample")
    knowledge = ("response",)
    plain_logits = "trains its generator by how sure the teacher is"
    source = "Choi, Choi, El-Khamy, Lee: Data-free network quantization with adversarial knowledge distillation. CVPR " \
             "workshops 2020"
    survey_scheme = ""
    survey_tables = ()
    cautions: ClassVar = {
        "offline": "it was measured below the student alone, which sees samples and labels: on the digits resnet8 ended at "
                   "94.8 %, alone at 98.6 % (seed 1)"}

    def __init__(self, *, noise: AtLeastOne, width: AtLeastOne, batch_size: AtLeastOne, steps: AtLeastOne,
                 generator_lr: Positive, student_lr: Positive | None, student_steps: Turns, warm_up: Epochs,
                 temperature: Positive, adversarial_weight: NonNegative, statistics_weight: NonNegative,
                 certainty_weight: NonNegative, balance_weight: NonNegative, distance: Literal["norm", "kl"],
                 certainty: Literal["one_hot", "entropy"], from_teacher: bool, bits: Bits | None) -> None:
        super().__init__(noise=noise, width=width, batch_size=batch_size, steps=steps, generator_lr=generator_lr,
                         student_lr=student_lr, ending="tanh", draws=student_steps + 1)
        self.temperature, self.distance, self.certainty = temperature, distance, certainty
        self.adversarial_weight, self.statistics_weight = adversarial_weight, statistics_weight
        self.certainty_weight, self.balance_weight = certainty_weight, balance_weight
        self.warm_up, self.from_teacher, self.bits, self.warming = warm_up, from_teacher, bits, False

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the generator, and find the teacher's normalisations."""
        super().setup(networks, data)
        self.layers = normalisations(networks.teacher) if self.statistics_weight else []

    def phases(self, run: Run) -> Iterator[Phase]:
        """The generator alone, then both players."""
        weights = compressed_student(run.networks, from_teacher=self.from_teacher, bits=self.bits)
        self.warming = True
        for phase in super().phases(run):
            if self.warm_up:
                yield Phase("warm-up", data=phase.data, epochs=self.warm_up, evaluate=False)
            self.warming = False
            yield phase
        if weights is not None:
            weights.bake()

    def nearness(self, pictures: Tensor, networks: Networks) -> tuple[Terms, Tensor]:
        """What holds the generator near to the training data, and the teacher's logits."""
        measure = statistics if self.distance == "norm" else lambda maps, layer: statistics_kl(
            maps, layer, 1e-5, from_batch=True).sum()
        with watched(self.layers, measure) as apart:
            logits = networks.teacher(pictures, fresh=True).logits
        sure = one_hot(logits) if self.certainty == "one_hot" else entropy(logits)
        terms = {"certainty": self.certainty_weight * sure, "balance": self.balance_weight * balance(logits, "ln")}
        if apart:
            terms["statistics"] = self.statistics_weight * torch.stack(apart).sum()
        return terms, logits

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The generator, then the student several times on what the new generator makes of other noise."""
        first, *lessons = batch.tensor.unbind(dim=1)
        pictures = self.generator(first)
        terms, logits = self.nearness(pictures, networks)
        if self.warming:
            yield "generator", terms
            return
        apart = kl(logits, networks.student(pictures, fresh=True).logits, train_teacher=True)
        yield "generator", {**terms, "adversarial": -self.adversarial_weight * apart}
        for noise in lessons:
            with torch.no_grad():
                pictures = self.generator(noise)
                wanted = networks.teacher(pictures, fresh=True).logits
            yield "student", {"kd": kd(wanted, networks.student(pictures, fresh=True).logits, self.temperature)}
