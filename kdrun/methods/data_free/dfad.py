"""Data-free adversarial distillation."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Positive, Turns
from kdrun.data.batch import Batch
from kdrun.methods.base import Terms
from kdrun.methods.data_free.generated import Generated
from kdrun.models.roles import Networks


def discrepancy(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean absolute difference of logits [B, K], with gradients to both (Fang et al. 2019)."""
    return F.l1_loss(student, teacher)


def reward(teacher: Tensor, student: Tensor, form: Literal["neg_mae", "neg_log_mae"]) -> Tensor:
    """What the generator descends: minus the discrepancy, or minus its logarithm, which no distance can run away with."""
    apart = discrepancy(teacher, student)
    return -apart if form == "neg_mae" else -torch.log(apart + 1)


class DFAD(Generated):
    """Train the student where its logits and the teacher's are furthest apart (Fang et al. 2019).

    No training picture is read. In turn the student learns the teacher's logits on several batches of generated
    pictures and the generator moves away from where they agree. The student is trained by the recipe; the release takes
    SGD too, at 0.01 on MNIST. Measured on the digits (default recipe, seeds 1 to 3): 95.3, 50.6 and 97.8 % of the test set
    right, where the baseline, which has the labels, has 98.6 % and the teacher 99.0 %: not every seed succeeds.

    Args:
        noise: numbers that a picture is made of.
        width: channels of the generator's first maps.
        batch_size: pictures an update.
        steps: turns an epoch.
        generator_lr: of the generator's Adam.
        student_lr: of the student's Adam; null for the recipe's optimizer.
        student_steps: updates of the student, each on new pictures, for each of the generator.
        reward: `neg_mae`, minus the mean absolute difference; `neg_log_mae`, bounded in its gradient where the student
            lags far behind.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Fang, Song, Shen, Wang, Chen, Song: Data-free adversarial distillation. arXiv 1912.11006, 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.1", "Gou section 6.6")

    def __init__(self, *, noise: AtLeastOne, width: AtLeastOne, batch_size: AtLeastOne, steps: AtLeastOne,
                 generator_lr: Positive, student_lr: Positive | None, student_steps: Turns,
                 reward: Literal["neg_mae", "neg_log_mae"]) -> None:
        super().__init__(noise=noise, width=width, batch_size=batch_size, steps=steps, generator_lr=generator_lr,
                         student_lr=student_lr, ending="tanh", draws=student_steps + 1)
        self.student_steps, self.reward = student_steps, reward

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The student several times, then the generator."""
        *lessons, last = batch.tensor.unbind(dim=1)
        for noise in lessons:
            with torch.no_grad():
                pictures = self.generator(noise)
                wanted = networks.teacher(pictures).logits
            yield "student", {"kd": discrepancy(wanted, networks.student(pictures).logits)}
        pictures = self.generator(last)
        yield "generator", {"reward": reward(networks.teacher(pictures).logits, networks.student(pictures).logits, self.reward)}
