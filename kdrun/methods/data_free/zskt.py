"""Zero-shot knowledge transfer."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive, Turns
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.data_free.generated import Generated
from kdrun.methods.losses import kl, places
from kdrun.methods.losses.feature import at
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class ZSKT(ScaledWeights, Generated):
    """Let a generator look for pictures on which student and teacher disagree (Micaelli and Storkey 2019).

    No training picture is read. Each batch of noise serves one update of the generator, which ascends the divergence
    through teacher and student, and then several of the student, which descends it on the new pictures and matches the
    attention of every stage. The student stays in training mode throughout, so its batch statistics move in the
    generator's update too, as in the release. Measured on the digits (resnet8 taught by wrn_16_2, default recipe, three
    seeds): 94.6 ± 1.4 % of the test set right, where the baseline, which has the labels, has 98.6 ± 0.1 % and the teacher
    99.0 %.

    The release weighs attention by 250 beside a divergence that it averages over 10 classes too, so by 2500 beside one that
    is summed over classes. The default is a sixth of that: on the digits, with half of the training pictures held out,
    92.2 % of these are right with 400 and 85.6 % with 2500 (Adam as in the release; 90.0 % with 400 and the recipe's SGD).

    The release clips the gradients of both players at 5: `recipe.clip=5`.

    Args:
        noise: numbers that a picture is made of.
        width: channels of the generator's first maps.
        batch_size: pictures a step.
        steps: batches of noise an epoch.
        generator_lr: of the generator's Adam.
        student_lr: of the student's Adam; null for the recipe's optimizer.
        student_steps: updates of the student for each of the generator.
        attention_weight: of the attention; 0 for networks whose stages do not pair up.
        reference: for how many places of the first stage `attention_weight` was given (1024 is 32x32); null takes it as
            it is.
        scaling: how it goes with that number, a rule of `kdrun.methods.scaling`.
        reduction: of the divergence: `mean`, the release's, is as many times weaker than `batchmean` as there are
            classes.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response", "feature")
    plain_logits = ""
    source = "Micaelli, Storkey: Zero-shot knowledge transfer via adversarial belief matching. NeurIPS 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1", "Gou section 6.6")
    scaled = ("attention_weight",)
    unit = "places of the first stage"

    def __init__(self, *, noise: AtLeastOne, width: AtLeastOne, batch_size: AtLeastOne, steps: AtLeastOne,
                 generator_lr: Positive, student_lr: Positive | None, student_steps: Turns,
                 attention_weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling,
                 reduction: Literal["mean", "batchmean"]) -> None:
        super().__init__(noise=noise, width=width, batch_size=batch_size, steps=steps, generator_lr=generator_lr,
                         student_lr=student_lr, ending="affine")
        self.student_steps, self.attention_weight, self.reduction = student_steps, attention_weight, reduction
        self.reference, self.scaling = reference if attention_weight else None, scaling

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the generator.

        Raises:
            ValueError: the stages do not pair up.
        """
        if self.attention_weight:
            networks.paired_stages("method.attention_weight", hint="set it to 0")
        self.rescale(places(networks.student.shapes.stages[0], networks.teacher.shapes.stages[0]))
        super().setup(networks, data)

    def divergence(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL divergence of logits [B, K], with gradients to both."""
        apart = kl(teacher, student, train_teacher=True)
        return apart / teacher.shape[1] if self.reduction == "mean" else apart

    def imitate(self, teacher: ModelOutput, student: ModelOutput) -> Terms:
        """What the student descends."""
        terms = {"kd": self.divergence(teacher.logits.detach(), student.logits)}
        if self.attention_weight:
            terms["at"] = self.scale * self.attention_weight * torch.stack([
                at(*pair, power=2) for pair in zip(teacher.stages, student.stages, strict=True)]).sum()
        return terms

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The generator once, then the student several times on what the new generator makes of the same noise."""
        pictures = self.generator(batch.tensor)
        apart = self.divergence(networks.teacher(pictures).logits, networks.student(pictures).logits)
        yield "generator", {"kd": -apart}
        with torch.no_grad():
            pictures = self.generator(batch.tensor)
            teacher = networks.teacher(pictures)
        for _ in range(self.student_steps):
            yield "student", self.imitate(teacher, networks.student(pictures, fresh=True))
