"""Supervision transfer from one modality to another."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.losses import places, same_size
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


def distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The squared distance of maps [B, C, H, W], summed over a sample and averaged over the batch."""
    return (student - teacher.detach()).square().flatten(1).sum(dim=1).mean()


class SupervisionTransfer(ScaledWeights):
    """Regress a layer of a teacher that sees another modality, without labels, then learn the task (Gupta et al. 2016).

    Both see the same sample, the teacher in a modality that has been learned already (`dataset=pair`). In the first phase
    the student up to its own layer learns the teacher's map of that sample, which needs no label; in the second the whole
    student learns from the labels of its modality, starting there. Maps of other widths are met by a 1x1 convolution that
    is dropped afterwards, maps of other sizes by averaging. The layers above the tap start new. Which layer, and how long
    the first phase is, are approximations: the paper takes layers in the middle and at the end of its networks.

    Args:
        teacher_stage: whose map is carried over, from 1; null for the last.
        student_stage: that learns it; null for the last.
        weight: of the distance; with a plain optimizer it only scales the first phase's learning rate.
        reference: for how many places of the map `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        transfer_epochs: of the first phase.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps",)
    knowledge = ("feature",)
    source = "Gupta, Hoffman, Malik: Cross modal distillation for supervision transfer. CVPR 2016"
    survey_scheme = "offline"
    survey_tables = ("Gou 4",)
    unit = "places of the stage"

    regressor: nn.Module | None

    def __init__(self, *, teacher_stage: AtLeastOne | None, student_stage: AtLeastOne | None, weight: Positive,
                 reference: AtLeastOne | None, scaling: Scaling, transfer_epochs: Epochs) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.teacher_stage, self.student_stage = teacher_stage, student_stage
        self.weight, self.transfer_epochs = weight, transfer_epochs

    def setup(self, networks: Networks, data: Data) -> None:
        """Build what brings the student's map to the teacher's width.

        Raises:
            ValueError: a stage that is not there.
        """
        student, teacher = networks.student.shapes.stages, networks.teacher.shapes.stages
        for key, wanted, stages, who in (("student_stage", self.student_stage, student, "student"),
                                         ("teacher_stage", self.teacher_stage, teacher, "teacher")):
            if (wanted or 0) > len(stages):
                raise ValueError(f"method.{key} is {wanted}, but the {who} has {len(stages)} stages")
        self.taught, self.tapped = self.student_stage or len(student), self.teacher_stage or len(teacher)
        before, after = student[self.taught - 1][0], teacher[self.tapped - 1][0]
        self.rescale(places(student[self.taught - 1], teacher[self.tapped - 1]))
        layer = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.regressor = layer.to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """The other modality's map, then the labels."""
        self.setup(run.networks, run.data)
        assert self.regressor is not None
        yield Phase("transfer", loss=self.transfer, train=[*run.networks.student.until(self.taught), self.regressor],
                    epochs=self.transfer_epochs, evaluate=False)
        self.regressor = None
        yield Phase("fine-tune")

    def transfer(self, networks: Networks, batch: Batch) -> Terms:
        """The distance of the maps of one sample in two modalities (equation 1)."""
        assert self.regressor is not None
        given = self.regressor(networks.student(batch).stages[self.taught - 1])
        target = networks.teacher(batch).stages[self.tapped - 1]
        return {"transfer": self.scale * self.weight * distance(*same_size(target, given))}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}
