"""Data-free learning of student networks."""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.data_free.generated import Generated
from kdrun.methods.losses import kl
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


def one_hot(logits: Tensor) -> Tensor:
    """How far the teacher's answers [B, K] are from certainty: their cross-entropy with their own best class."""
    return F.cross_entropy(logits, logits.argmax(dim=1))


def activation(embedding: Tensor) -> Tensor:
    """Minus the mean size of what the teacher's classifier sees [B, D]: real pictures excite it."""
    return -embedding.abs().mean()


def balance(logits: Tensor, logarithm: Literal["log10", "ln"]) -> Tensor:
    """Minus the entropy of the mean answer of a batch [B, K]: least when all classes appear alike."""
    mean = logits.softmax(dim=1).mean(dim=0)
    # the clamp keeps a class that nobody answers from a logarithm of zero
    negative = (mean * mean.clamp_min(1e-12).log()).sum()
    return negative / math.log(10) if logarithm == "log10" else negative


class DAFL(ScaledWeights, Generated):
    """Train a generator of pictures that the teacher takes for real, and the student on them (Chen et al. 2019).

    No training picture is read. In every step the same pictures improve the generator (a certain answer, a strong
    embedding, all classes alike) and teach the student (Hinton's loss at temperature 1). Measured on the digits
    (resnet8 taught by wrn_16_2, default recipe, three seeds): 88.4 ± 2.2 % of the test set right, where the baseline,
    which has the labels, has 98.6 ± 0.1 % and the teacher 99.0 %.

    The generator's rate follows the recipe's schedule; the release keeps it constant on MNIST.

    Args:
        noise: numbers that a picture is made of.
        width: channels of the generator's first maps.
        batch_size: pictures a step.
        steps: steps an epoch.
        generator_lr: of the generator's Adam.
        student_lr: of the student's Adam; null for the recipe's optimizer, as in the release on CIFAR.
        eps: added to the variance in the generator's two inner normalisations.
        one_hot_weight: of the certainty.
        activation_weight: of the embedding's strength.
        balance_weight: of the balance of classes.
        reference: for how many classes these three weights were given; null takes them as they are, whatever their number.
        scaling: how they go with that number, a rule of `kdrun.methods.scaling`.
        logarithm: of the balance: `log10` as in the release, `ln` is 2.3 times stronger.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = "trains its generator by how sure the teacher is"
    source = "Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu, Tian: Data-free learning of student networks. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1", "Gou section 6.6")
    scaled = ("one_hot_weight", "activation_weight", "balance_weight")

    def __init__(self, *, noise: AtLeastOne, width: AtLeastOne, batch_size: AtLeastOne, steps: AtLeastOne,
                 generator_lr: Positive, student_lr: Positive | None, eps: Positive, one_hot_weight: NonNegative,
                 activation_weight: NonNegative, balance_weight: NonNegative, reference: AtLeastOne | None,
                 scaling: Scaling, logarithm: Literal["log10", "ln"]) -> None:
        super().__init__(noise=noise, width=width, batch_size=batch_size, steps=steps, generator_lr=generator_lr,
                         student_lr=student_lr, ending="tanh", eps=eps)
        self.one_hot_weight, self.activation_weight = one_hot_weight, activation_weight
        self.balance_weight, self.logarithm = balance_weight, logarithm
        self.reference, self.scaling = reference, scaling

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the generator, and count the classes."""
        super().setup(networks, data)
        self.rescale(networks.student.shapes.logits[0])

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The generator by the teacher's answer, then the student by the same pictures and the same answer."""
        pictures = self.generator(batch.tensor)
        teacher = networks.teacher(pictures)
        yield "generator", {"one_hot": self.scale * self.one_hot_weight * one_hot(teacher.logits),
                            "activation": self.scale * self.activation_weight * activation(teacher.embedding),
                            "balance": self.scale * self.balance_weight * balance(teacher.logits, self.logarithm)}
        yield "student", {"kd": kl(teacher.logits, networks.student(pictures.detach()).logits)}
