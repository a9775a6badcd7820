"""Self-attention distillation."""

from typing import ClassVar

import torch

from kdrun.config.constraints import AtLeastOne, NonNegative, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.losses.dense import self_attention
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class SAD(ScaledWeights):
    """Let each stage imitate where the next one looks: the network's own attention, from deep to shallow (Hou et al. 2019).

    Attention is the softmax over places of the mean square over channels; that of the deeper stage is a constant. The
    labels are alone until the network has something to imitate. Made for lane detection; nothing in it depends on that.

    The authors' files hold no such loss, so that its reduction and weight are those of an implementation for classifiers
    (Self-KD-Lib), which starts at once; from the paper is that it starts late.

    Args:
        weight: of the mean squared difference of the attentions, which is summed over stages.
        start_share: share of the training that is by the labels alone.
        reference: for how many places of the first stage `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("feature",)
    structural = True
    source = "Hou, Ma, Liu, Loy: Learning lightweight lane detection CNNs by self attention distillation. ICCV 2019"
    survey_scheme = "self"
    survey_tables = ("Gou section 4.3", "Gou section 6.5")
    unit = "places of the first stage"

    def __init__(self, *, weight: NonNegative, start_share: Proportion, reference: AtLeastOne | None,
                 scaling: Scaling) -> None:
        super().__init__()
        self.weight, self.start_share = weight, start_share
        self.reference, self.scaling = reference, scaling

    def setup(self, networks: Networks, data: Data) -> None:
        """Scale the weight.

        Raises:
            ValueError: there is no stage to imitate.
        """
        stages = networks.student.shapes.stages
        if len(stages) < 2:
            raise ValueError("sad lets each stage imitate the next, but the student has one stage only; choose one with more, "
                             "like resnet8")
        self.rescale(stages[0][-2] * stages[0][-1])

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and after a while the attention of each next stage."""
        student = networks.student(batch)
        apart = [self_attention(deeper, shallower)
                 for shallower, deeper in zip(student.stages, student.stages[1:], strict=False)]
        begun = batch.epoch >= self.start_share * batch.epochs
        return {"ce": self.label_loss(student, batch), "sad": self.scale * self.weight * begun * torch.stack(apart).sum()}
