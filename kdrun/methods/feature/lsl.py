"""Layer selectivity learning."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import mean_distance, unit_rows
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role


def layers(output: ModelOutput) -> list[Tensor]:
    """The layers that can be chosen, each as pooled features [B, C]: the stem, where there is one, and the stages."""
    maps = [*([] if output.stem is None else [output.stem]), *output.stages]
    return [one.mean(dim=(2, 3)) for one in maps]


def between_classes(features: Tensor, labels: Tensor) -> Tensor:
    """How alike the classes look to a layer: the mean cosine of different classes' mean features, a scalar.

    Args:
        features: [N, C].
        labels: [N], of at least two classes.
    """
    means = unit_rows(torch.stack([features[labels == label].mean(dim=0) for label in labels.unique()]))
    return (means @ means.T)[~torch.eye(len(means), dtype=torch.bool, device=means.device)].mean()


def between_layers(features: Sequence[Tensor]) -> Tensor:
    """How alike each of L layers sees the samples to the other layers: the mean cosine of their Gram matrices, [L].

    Args:
        features: [N, C] of each layer; C may differ.
    """
    grams = unit_rows(torch.stack([(unit_rows(one) @ unit_rows(one).T).flatten() for one in features]))
    alike = grams @ grams.T
    return (alike.sum(dim=1) - alike.diagonal()) / max(len(features) - 1, 1)


def scores(features: Sequence[Tensor], labels: Tensor) -> Tensor:
    """What tells against choosing each of L layers, [L]: it tells classes apart badly, or is like the other layers."""
    return torch.stack([between_classes(one, labels) for one in features]) + between_layers(features)


class LSL(Method):
    """Choose the layers of both networks that tell most, and align them pair by pair beside the labels (Li et al. 2019).

    An approximation: known are the two criteria by name, the loss and what it aligns, not the formulas of the criteria. A
    layer is chosen in a trained network for telling the classes apart (the layered inter-class Gram matrix: cosines of the
    classes' mean features) and for being unlike the other layers (the inter-layered Gram matrix: cosines of what the layers
    make of the same samples); both scores are added, the lowest are taken, and the k-th chosen layer of the teacher is paired
    with the student's k-th. The student's layers are those of the baseline, which is trained anyhow. Layers are the stem and
    the stages, averaged over their places. Both are projected to vectors of one length; the teacher's projection is a fixed
    random one with orthonormal rows or columns, as two that learn could agree on nothing. `layers.csv` has the scores and the
    choice.

    On the digits (resnet8 taught by wrn_16_2, default settings, three seeds) the student has 98.8 ± 0.1 %, by Hinton's loss
    98.8 ± 0.2 % and alone 98.6 ± 0.1 %. Of its four layers the last three were chosen, of the teacher's the first and the last
    two, in every seed.

    Args:
        count: how many layers are aligned.
        probe: samples of the training split, balanced by class, that the layers are scored by.
        size: numbers of a projection.
        weight: of the sum of distances.
        ce_weight: of the cross-entropy with the labels.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "one row a sample", "sample labels")
    knowledge = ("feature",)
    source = "Li, Lin, Chen, Chiang: Layer-level knowledge distillation for deep neural network learning. " \
             "Applied Sciences 9(10), 2019"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 2",)

    def __init__(self, *, count: AtLeastOne, probe: AtLeastOne, size: AtLeastOne, weight: NonNegative,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.count, self.probe, self.size, self.weight, self.ce_weight = count, probe, size, weight, ce_weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, once the layers are chosen."""
        self.baseline = (run.factory.baseline(),)  # in a tuple: it is no part of the method
        yield from super().phases(run)

    def setup(self, networks: Networks, data: Data) -> None:
        """Choose the layers, and build the projections.

        Raises:
            ValueError: a network has too few layers.
        """
        if self.baseline[0].shapes != networks.student.shapes:
            raise ValueError("the student's layers are chosen in the student trained alone, and the one that is taught now is "
                             "another network; take another base")
        self.scored = {role.name: self.score(role, data) for role in (networks.teacher, *self.baseline)}
        for who, scored in zip(("teacher", "student"), self.scored.values(), strict=True):
            if len(scored) < self.count:
                raise ValueError(f"method.count is {self.count}, but the {who} has {len(scored)} layers to choose from (stem "
                                 "and stages)")
        self.of_teacher, self.of_student = (chosen(scored, self.count) for scored in self.scored.values())
        given, wanted = ([stage[0] for stage in (*([role.shapes.stem] if role.shapes.stem else []), *role.shapes.stages)]
                         for role in (networks.student, networks.teacher))
        self.project = nn.ModuleList(nn.Linear(given[layer], self.size, bias=False) for layer in self.of_student)
        for number, layer in enumerate(self.of_teacher):
            matrix = nn.init.orthogonal_(torch.empty(self.size, wanted[layer]), generator=self.random)
            self.register_buffer(f"target{number}", matrix)
        self.to(networks.device)

    def score(self, role: Role, data: Data) -> Tensor:
        """The scores of a trained network's layers."""
        seen = data.seen(role.view)
        samples = seen.train.limit(min(self.probe, len(seen.train)), seen.settings.split_seed, len(seen.classes))
        parts, labels = [], []
        with torch.no_grad():
            for batch in seen.plain(samples, role.device):
                parts.append(layers(role.network(batch.x)))
                labels.append(batch.labels)
        return scores([torch.cat(own).double() for own in zip(*parts, strict=True)], torch.cat(labels))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and the chosen layers."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        given, wanted = layers(student), layers(teacher)
        apart = [mean_distance(project(given[own]), F.linear(wanted[theirs].detach(), self.get_buffer(f"target{number}")))
                 for number, (theirs, own, project) in enumerate(
                     zip(self.of_teacher, self.of_student, self.project, strict=True))]
        return {"ce": self.ce_weight * self.label_loss(student, batch), "lsl": self.weight * torch.stack(apart).sum()}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The score of each layer, and whether it was chosen."""
        picks = (self.of_teacher, self.of_student)
        return {"layers": [{"network": who, "layer": number, "score": value, "chosen": number in picked}
                           for (who, scored), picked in zip(self.scored.items(), picks, strict=True)
                           for number, value in enumerate(scored.tolist())]}


def chosen(scored: Tensor, count: int) -> list[int]:
    """The layers of the lowest scores, in their order."""
    return sorted(scored.argsort(stable=True)[:count].tolist())
