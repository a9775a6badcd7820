"""Reused teacher classifier."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Terms
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role, evaluating


class ReusedHead(nn.Module):
    """A projector of the student's last map to the teacher's, and the teacher's classifier on top.

    Args:
        before: channels of the student's map.
        after: of the teacher's.
        factor: by which the projector is narrower than that inside; None for a projector of one convolution of one place.
        classes: how many.
        height: that a larger map is averaged down to.
        width: likewise.
    """

    def __init__(self, before: int, after: int, factor: int | None, classes: int, height: int, width: int) -> None:
        super().__init__()
        self.told = {"before": before, "after": after, "factor": factor, "classes": classes, "height": height,
                     "width": width}
        self.size, inner = (height, width), before if factor is None else max(1, after // factor)
        inside = [] if factor is None else [
            nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, 1, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
        self.projector = nn.Sequential(*inside, nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.classifier = nn.Linear(after, classes)

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return dict(self.told)

    def project(self, maps: Tensor) -> Tensor:
        """From the student's map [B, C, H, W] to one like the teacher's."""
        return self.projector(maps if maps.shape[-2:] == self.size else F.adaptive_avg_pool2d(maps, self.size))

    def forward(self, output: ModelOutput) -> ModelOutput:
        """The student's answer with the logits that the teacher's classifier gives, the projected map and its mean."""
        maps = self.project(output.stages[-1])
        embedding = maps.mean(dim=(2, 3))
        return output.replace(logits=self.classifier(embedding), embedding=embedding,
                              stages=(*output.stages[:-1], maps))


class ReusedClassifier(nn.Module):
    """A student that answers by its teacher's classifier; its own is cut off, so that nobody counts or stores it.

    Args:
        student: with its own classifier.
        head: that takes its place.
    """

    def __init__(self, student: Role, head: ReusedHead) -> None:
        super().__init__()
        student.network.set_submodule(student.classifier, nn.Identity())
        self.student, self.head = student, head
        self.model = f"{student.model} with its teacher's classifier"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"student": self.student, "head": self.head}

    def forward(self, asked: Batch | Tensor) -> ModelOutput:
        """Answer a batch or pictures [B, C, H, W]."""
        return self.head(self.student(asked, fresh=True))  # asked anew: who measures the time asks the same pictures again


def pooled_classifier(role: Role) -> nn.Linear:
    """A network's classifier, which has to be a linear layer that sees the mean of its last map.

    Raises:
        ValueError: it sees something else.
    """
    layer = role.network.get_submodule(role.classifier)
    assert isinstance(layer, nn.Linear)
    with torch.no_grad(), evaluating(role.network):
        seen = role(role.task.example(2, role.device), fresh=True)
    mean = seen.stages[-1].mean(dim=(2, 3))
    if mean.shape != seen.embedding.shape or not torch.allclose(mean, seen.embedding, atol=1e-4):
        raise ValueError(f"it needs a {role.name} whose classifier sees the mean of its last map, and that of "
                         f"{role.model or 'this one'} sees something else; choose another {role.name}")
    return layer


def reused_head(networks: Networks, factor: int | None) -> ReusedHead:
    """A projector of the student's last map, and the teacher's classifier, which does not learn.

    Raises:
        ValueError: the teacher's classifier sees something else than the mean of its last map.
    """
    teacher = networks.teacher
    layer = pooled_classifier(teacher)
    assert networks.student.classifier, "it has one to be replaced, or says so"
    given, wanted = networks.student.shapes.stages[-1], teacher.shapes.stages[-1]
    size = (min(given[side], wanted[side]) for side in (1, 2))
    head = ReusedHead(given[0], wanted[0], factor, layer.out_features, *size).to(networks.device)
    nn.init.zeros_(head.classifier.bias)  # for a teacher that has none
    head.classifier.load_state_dict(layer.state_dict(), strict=False)
    head.classifier.requires_grad_(False)
    return head


class SimKD(Method):
    """Put the teacher's classifier on the student, and teach nothing but the map that it reads (Chen et al. 2022).

    A projector of three convolutions leads from the student's last map to the teacher's, and both learn the mean squared
    distance of the maps alone: there are no labels, no softened answers and no weights to balance. What is evaluated, counted
    and stored is the student without its own classifier, with the projector and the teacher's classifier. Of two sizes of
    maps the larger is averaged down.

    The teacher's classifier must be a linear layer that sees the mean of its last map, and it has to be trained beforehand, so
    `scheme=offline` is the only one. On the digits (resnet8 taught by wrn_16_2, default settings, three seeds) what comes out
    has 98.3 ± 0.3 %, the student alone 98.6 ± 0.1 %: it learns from no label, and 40 epochs of 12 steps are few for its map.
    With the authors' weight of 1 it had 89 % of the validation split.

    Args:
        factor: by which the projector is narrower inside than the teacher's map.
        weight: of the distance.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    rebuilds_student = True
    needs = ("maps", "pictures", "one row a sample")
    knowledge = ("feature",)
    source = "Chen, Mei, Zhang, Wang, Feng, Chen: Knowledge distillation with the reused teacher classifier. CVPR 2022"
    survey_scheme = ""
    survey_tables = ()

    head: ReusedHead

    def __init__(self, *, factor: AtLeastOne, weight: Positive) -> None:
        super().__init__()
        self.factor, self.weight = factor, weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the projector, and take over the classifier."""
        self.head = reused_head(networks, self.factor)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The distance of the maps."""
        given = self.head.project(networks.student(batch).stages[-1])
        wanted = networks.teacher(batch).stages[-1].detach()
        if wanted.shape[-2:] != given.shape[-2:]:
            wanted = F.adaptive_avg_pool2d(wanted, (given.shape[-2], given.shape[-1]))
        return {"simkd": self.weight * F.mse_loss(given, wanted)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student with its projector and the teacher's classifier."""
        return {"student": ReusedClassifier(copy.deepcopy(networks.student), copy.deepcopy(self.head))}
