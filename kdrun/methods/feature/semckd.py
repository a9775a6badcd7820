"""Cross-layer distillation with semantic calibration."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd, same_size, unit_rows
from kdrun.methods.losses.cross_layer import semantic_calibration
from kdrun.models.roles import Networks


def projector(before: int, after: int) -> nn.Sequential:
    """From maps of the student's channels to the teacher's: 1x1, 3x3 and 1x1 convolutions, the last one plain."""
    inner = 2 * after
    return nn.Sequential(nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
                         nn.Conv2d(inner, inner, 3, 1, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
                         nn.Conv2d(inner, after, 1, bias=False))


class Embedder(nn.Module):
    """From what a layer makes of the samples of a batch [B, ...] to a query or key of each: rows of length one [B, D].

    Args:
        samples: B, how many a batch has; its rows of similarities are that long.
        size: D.
    """

    def __init__(self, samples: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(samples, 2 * size), nn.ReLU(), nn.Linear(2 * size, size))

    def forward(self, maps: Tensor) -> Tensor:
        """From the inner products of each sample with all others, as they are."""
        flat = maps.flatten(1)
        return unit_rows(self.layers(flat @ flat.T))


class SemCKD(Method):
    """Draw each stage of the student to all of the teacher's, weighed by how alike they see a batch (Chen et al. 2021).

    For each sample an attention weighs the teacher's stages for every stage of the student: from the inner products of the
    sample with all others of the batch, as one network's stage and the other's have them. A projector for each pair leads to
    the teacher's channels; of two sizes the larger map is averaged down. Numbers of stages may differ. The student may lower
    the loss by moving the attention too, as in the authors' code.

    The attention reads as many similarities as a batch has samples, so batches must all be of one size. On the
    digits (resnet8 taught by wrn_16_2, default settings, three seeds) the student has 99.0 ± 0.2 %, by Hinton's loss 98.8 ±
    0.2 % and alone 98.6 ± 0.1 %.

    Args:
        weight: of the calibrated distances.
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the softened answers.
        temperature: of those.
    """

    needs = ("maps",)
    knowledge = ("feature", "response")
    source = "Chen, Mei, Zhang, Wang, Wang, Feng, Chen: Cross-layer distillation with semantic calibration. AAAI 2021"
    survey_scheme = ""
    survey_tables = ()

    samples: int

    def __init__(self, *, weight: NonNegative, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.weight, self.ce_weight, self.kd_weight, self.temperature = weight, ce_weight, kd_weight, temperature

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, once it is known how many samples a batch has."""
        self.samples = run.stream.size
        yield from super().phases(run)

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the queries, the keys and a projector for each pair of stages."""
        given, wanted = networks.student.shapes.stages, networks.teacher.shapes.stages
        size = max(1, self.samples // 4)
        self.queries, self.keys = (nn.ModuleList(Embedder(self.samples, size) for _ in stages) for stages in (given, wanted))
        self.projectors = nn.ModuleList(nn.ModuleList(projector(before[0], after[0]) for after in wanted) for before in given)
        self.to(networks.device)

    def shares(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """How much each of the teacher's T stages counts for each of the student's S: [B, S, T], of sum 1 over T."""
        queries = torch.stack([query(maps) for query, maps in zip(self.queries, student, strict=True)], dim=1)
        keys = torch.stack([key(maps) for key, maps in zip(self.keys, teacher, strict=True)], dim=1)
        return (queries @ keys.transpose(1, 2)).softmax(dim=2)

    def distances(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """The mean squared distance of each pair of stages, for each sample: [B, S, T]."""
        rows = []
        for own, maps in zip(self.projectors, student, strict=True):
            assert isinstance(own, nn.ModuleList)
            pairs = [(layers, *same_size(maps, wanted)) for layers, wanted in zip(own, teacher, strict=True)]
            rows.append(torch.stack([(layers(given) - wanted).square().flatten(1).mean(dim=1)
                                     for layers, given, wanted in pairs], dim=1))
        return torch.stack(rows, dim=1)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, softened answers and the calibrated distances.

        Raises:
            ValueError: a batch of another size.
        """
        if len(batch) != self.samples:
            raise ValueError(f"the attention was built for batches of {self.samples} samples, and this one has {len(batch)}; "
                             "whoever makes the batches must keep to recipe.batch_size")
        student, teacher = networks.student(batch), networks.teacher(batch)
        wanted = [maps.detach() for maps in teacher.stages]
        apart = semantic_calibration(self.distances(wanted, student.stages), self.shares(wanted, student.stages))
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * kd(teacher.logits, student.logits, self.temperature), "semckd": self.weight * apart}
