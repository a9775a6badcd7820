"""Several teachers in two stages."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Epochs, Fraction, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import kd
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks


class Heads(nn.Module):
    """A classifier for each teacher on the student's embedding, whose mean is always the student's own classifier.

    Each is the student's own and an offset, a linear layer of its own less the mean of all offsets: any linear
    classifiers can be written so. What is left when the offsets are dropped is their mean exactly.

    Args:
        width: of the embedding.
        classes: how many.
        count: of classifiers.
    """

    def __init__(self, width: int, classes: int, count: int) -> None:
        super().__init__()
        self.offsets = nn.ModuleList([nn.Linear(width, classes) for _ in range(count)])

    def forward(self, student: ModelOutput) -> Tensor:
        """Logits [M, B, K] of all classifiers, from the student's own output."""
        offsets = torch.stack([offset(student.embedding) for offset in self.offsets])
        return student.logits + offsets - offsets.mean(dim=0)


class TwoStageTeachers(Method):
    """Pre-train a student with a classifier for each teacher on their soft answers, then add the labels (Yang et al. 2020).

    Each classifier follows its own teacher, on a common trunk. The first stage needs no labels, and takes the training
    samples without them, where the paper had a great many samples more; trunk and classifiers go on into the second.
    Classifiers are linear and the student answers by the mean of their logits, so in the end they are one classifier and the
    student is as large as ever. One teacher and no first stage make this Hinton's method, at equal weights and `kd`.

    An approximation: the paper (of texts) was not at hand beyond its abstract, so the distance, the weights, the length of
    the stages and the mean of logits rather than of probabilities are ours.

    Args:
        distance: from a teacher: `mse` of the probabilities, summed over classes, or `kd`, softened by the temperature.
        temperature: of `kd`.
        alpha: of the teachers in the second stage; the labels have what is left of 1.
        pretraining_epochs: of the first stage, at a constant rate.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    needs = ("one row a sample",)
    label_term = None  # those of all classifiers
    knowledge = ("response",)
    plain_logits = "has classifiers of its own, whose logits are not the student's"
    source = "Yang, Shou, Gong, Lin, Jiang: Model compression with two-stage multi-teacher knowledge distillation for web " \
             "question answering system. WSDM 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou 3",)

    heads: Heads | None

    def __init__(self, *, distance: Literal["mse", "kd"], temperature: Positive, alpha: Fraction,
                 pretraining_epochs: Epochs) -> None:
        super().__init__()
        self.distance, self.temperature, self.alpha = distance, temperature, alpha
        self.pretraining_epochs = pretraining_epochs

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the classifiers."""
        shapes = networks.student.shapes
        self.heads = Heads(shapes.embedding[0], shapes.logits[0], len(networks.teachers)).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The teachers alone, then with the labels; then the classifiers are one."""
        self.setup(run.networks, run.data)
        if self.pretraining_epochs:
            yield Phase("pre-training", loss=self.soft, train=[run.networks.student, self], epochs=self.pretraining_epochs,
                        constant_rate=True)
        yield Phase()
        self.heads = None

    def soft(self, networks: Networks, batch: Batch) -> Terms:
        """Each teacher for its classifier."""
        assert self.heads is not None
        logits, wanted = self.heads(networks.student(batch)), [teacher(batch).logits for teacher in networks.teachers]
        apart = [kd(theirs, own, self.temperature) if self.distance == "kd" else
                 (own.softmax(dim=1) - theirs.detach().softmax(dim=1)).square().sum(dim=1).mean()
                 for theirs, own in zip(wanted, logits, strict=True)]
        return {"soft": torch.stack(apart).sum()}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for every classifier, and each teacher for its own."""
        assert self.heads is not None
        student = networks.student(batch)
        labels = [self.label_loss(student.replace(logits=own), batch) for own in self.heads(student)]
        soft = self.soft(networks, batch)["soft"]
        return {"ce heads": (1 - self.alpha) * torch.stack(labels).sum(), "soft": self.alpha * soft}
