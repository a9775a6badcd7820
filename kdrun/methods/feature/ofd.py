"""Overhaul of feature distillation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Terms
from kdrun.methods.losses import halving_sum, places
from kdrun.methods.losses.feature import expected_negative, measured_negative, ofd
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks, Role


def closing(role: Role) -> list[nn.BatchNorm2d | None]:
    """For each stage the normalisation whose output is the map before the activation; None where it is not one's."""
    made: list[tuple[nn.BatchNorm2d, Tensor]] = []
    hooks = [module.register_forward_hook(lambda module, _, output: made.append((module, output)))
             for module in role.network.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    training = [(module, module.training) for module in role.network.modules()]
    role.network.eval()
    place = next(role.network.parameters()).device
    with torch.no_grad():
        preacts = role.network(role.task.example(2, place)).preacts
    for part, mode in training:
        part.training = mode
    for hook in hooks:
        hook.remove()
    return [next((module for module, output in made if output is maps), None) for maps in preacts]


class OFD(ScaledWeights):
    """Match every stage before its activation, through a margin that forgives negative responses (Heo et al. 2019).

    A teacher's value is the target where it is above its channel's margin, the margin where it is below, and a student
    that is lower still has nothing to learn. Connectors (1x1 convolution and normalisation) lead from the student's
    stages to the teacher's. Networks must have equally many stages; where their maps differ in size the
    larger is averaged down.

    A margin is the channel's expected negative value: in closed form where a normalisation ends the teacher's stage,
    measured on each batch where a residual sum does (there the authors use the block's last normalisation, an
    approximation).

    Args:
        weight: of the last stage; each stage before counts half of the next.
        reference: for how many places of the first stage `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    source = "Heo, Kim, Yun, Park, Kwak, Choi: A comprehensive overhaul of feature distillation. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 1",)
    unit = "places of the first stage"

    def __init__(self, *, weight: NonNegative, reference: AtLeastOne | None, scaling: Scaling,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        self.weight, self.ce_weight = weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a connector for every stage, and find out where the teacher's margins come from.

        Raises:
            ValueError: the stages do not pair up.
        """
        pairs = networks.paired_stages("feature distillation", "preacts")
        self.rescale(places(*pairs[0]))
        self.connectors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before[0], after[0], 1, bias=False), nn.BatchNorm2d(after[0]))
            for before, after in pairs)
        for connector, (_, after) in zip(self.connectors, pairs, strict=True):
            nn.init.normal_(connector[0].weight, std=math.sqrt(2 / after[0]))  # type: ignore[index]
        self.connectors.to(networks.device)
        self.closing = tuple(closing(networks.teacher))  # a tuple: the teacher's modules are not this method's

    def distance(self, teacher: Sequence[Tensor], margins: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """How far the connected stages [B, C, H, W] are from the teacher's above its margins [C], a scalar."""
        return halving_sum([ofd(wanted, given, margin)
                            for wanted, margin, given in zip(teacher, margins, student, strict=True)])

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and stages."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        margins = [measured_negative(maps) if module is None else expected_negative(module.bias, module.weight)
                   for module, maps in zip(self.closing, teacher.preacts, strict=True)]
        connected = [connector(maps) for connector, maps in zip(self.connectors, student.preacts, strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "ofd": self.scale * self.weight * self.distance(teacher.preacts, margins, connected)}
