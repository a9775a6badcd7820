"""Progressive blockwise distillation."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar

import torch.nn.functional as F

from kdrun.config.constraints import Bounds, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.methods.structure.made import as_student, check_inputs, share_of
from kdrun.models.edited import narrowed
from kdrun.models.roles import Networks
from kdrun.utils.seeding import seeded


class Blockwise(Method):
    """Replace the teacher's stages by narrower ones, one after the other from the pictures on (Wang et al. 2018).

    The student is the teacher in which each stage has a share of its filters in all convolutions and a 1x1 convolution behind
    it that brings back the number of channels, so that it sees as far as the teacher's. At each step one more stage is new:
    it learns to give the teacher's map of the same picture, and, through the rest of the teacher, which stays as it is, the
    labels and the teacher's softened answer. At the end all stages learn together.

    An approximation: only notes on the paper were at hand. Weights, epochs and the form of the loss at a step are ours.
    Channels that a shortcut brings from outside a stage keep their number, and new stages start from new weights.

    On the digits resnet8 (98.7 ± 0.4 %, 77,754 parameters) becomes a student of 30,442 that has 97.6 ± 0.3 % (three seeds).

    `student=` names the network that is trained alone beside it; the rows of the student are those of the network that is made.

    Args:
        ratio: share of the filters that a new stage has.
        weight: of labels and softened answers at a step, beside the map.
        temperature: of the softened answers.
        kd_weight: of the softened answers, beside the labels.
        freeze_done: whether stages that were replaced before stay as they are at later steps.
        block_share: of the recipe's epochs, for each step.
        last_share: of the recipe's epochs, for all stages together.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "pictures")
    knowledge = ("feature", "response")
    structural = True
    plain_logits = "makes the student that it trains out of the teacher"
    source = "Wang, Zhao, Li, Tan: Progressive blockwise knowledge distillation for neural network acceleration. IJCAI 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 5",)

    def __init__(self, *, ratio: Annotated[float, Bounds(above=0, most=1)], weight: NonNegative, temperature: Positive,
                 kd_weight: NonNegative, freeze_done: bool, block_share: Positive, last_share: Positive) -> None:
        super().__init__()
        self.ratio, self.weight, self.temperature, self.kd_weight = ratio, weight, temperature, kd_weight
        self.freeze_done, self.block_share, self.last_share = freeze_done, block_share, last_share

    def phases(self, run: Run) -> Iterator[Phase]:
        """A stage after the other, then all.

        Raises:
            ValueError: the teacher's channels cannot be followed.
        """
        networks, teacher = run.networks, run.networks.teacher
        check_inputs(networks)
        network = teacher.network
        for stage in range(len(teacher.shapes.stages)):
            with seeded("weights", "block", stage, run.seed):
                network = narrowed(network, f"stages.{stage}", self.ratio)
            student = as_student(run, network, f"{teacher.model} narrowed to {self.ratio:g}")
            network = student.network
            new = student.until(stage + 1)
            yield Phase(f"block {stage + 1}", loss=partial(self.match, stage=stage), epochs=share_of(run, self.block_share),
                        train=new[-1:] if self.freeze_done else new[1:])
        yield Phase("all", epochs=share_of(run, self.last_share))

    def match(self, networks: Networks, batch: Batch, stage: int) -> Terms:
        """The map of the new stage, counted from 0, and what the whole answers."""
        own, wanted = networks.student(batch).stages[stage], networks.teacher(batch).stages[stage]
        return {"map": F.mse_loss(own, wanted.detach())} | {
            name: self.weight * term for name, term in self.loss(networks, batch).items()}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels and the teacher's softened answer."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        return {"ce": self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature)}
