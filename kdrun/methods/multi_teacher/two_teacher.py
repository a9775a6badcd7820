"""Two teachers of different roles."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import nn

from kdrun.config.constraints import NetworkName, NonNegative, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.methods.losses.feature import map_mse
from kdrun.models.roles import Networks, frozen


class TwoTeachers(Method):
    """Learn features from a strictly trained teacher and decisions from a loosely trained one (Chen et al. 2019).

    The strict teacher is the run's, trained on the labels as they are. The loose one is trained first, here, on smoothed
    labels, so that it is less sure; its softened answers are what the student compares its own with. Stages pair up with the
    strict teacher's alone, by 1x1 convolutions, so the loose one may be any network.

    An approximation: the paper was not at hand beyond its abstract, so smoothing as the loose training, the form of the
    hints and the weights are ours.

    Args:
        loose_teacher: the name of its network; null for that of the strict teacher, with other first weights.
        smoothing: of the loose teacher's labels.
        hint_weight: of the mean squared differences from the strict teacher's maps, summed over stages.
        temperature: softens answers.
        kd_weight: of the soft term, which holds the squared temperature.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "sample labels")
    knowledge = ("response", "feature")
    source = "Chen, Su, Zhang: A two-teacher framework for knowledge distillation. ISNN 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.2",)

    adapters: nn.ModuleList

    def __init__(self, *, loose_teacher: NetworkName | None, smoothing: Proportion, hint_weight: NonNegative,
                 temperature: Positive, kd_weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.loose_teacher, self.smoothing, self.hint_weight = loose_teacher, smoothing, hint_weight
        self.temperature, self.kd_weight, self.ce_weight = temperature, kd_weight, ce_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """The loose teacher, then the student."""
        factory, part = run.factory, "loose teacher"
        self.setup(run.networks, run.data)
        loose = factory.named(self.loose_teacher, part) if self.loose_teacher else factory.build(factory.teacher_specs[0], part)
        run.networks.peers = [loose]
        yield Phase(part, loss=self.alone, train=[loose], evaluate=False)
        run.networks.peers = []
        run.networks.teachers = [*run.networks.teachers, frozen(loose)]
        yield Phase()

    def setup(self, networks: Networks, data: Data) -> None:
        """Build what brings the student's maps to the strict teacher's channels.

        Raises:
            ValueError: the stages do not pair up.
        """
        pairs = networks.paired_stages("two_teacher", hint="choose a teacher and a student of equally many")
        self.adapters = nn.ModuleList([nn.Conv2d(own[0], wanted[0], 1) for own, wanted in pairs]).to(networks.device)

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The loose teacher's labels."""
        return {"ce": self.task.label_loss(networks.peers[0](batch), batch, self.smoothing)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, the strict teacher's maps, the loose teacher's answer."""
        student, (strict, loose) = networks.student(batch), (teacher(batch) for teacher in networks.teachers)
        hints = [map_mse(wanted, adapter(own))
                 for wanted, adapter, own in zip(strict.stages, self.adapters, student.stages, strict=True)]
        return {"ce": self.ce_weight * self.label_loss(student, batch), "hint": self.hint_weight * torch.stack(hints).sum(),
                "kd": self.kd_weight * kd(loose.logits, student.logits, self.temperature)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student and, once it is trained, the loose teacher."""
        return {"student": networks.student, **{role.name: role for role in networks.teachers[1:]}}
