"""On-the-fly native ensemble."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Bounds, Count, Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Teachers, Terms
from kdrun.methods.losses import kd, ramp
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role


def gated(shares: Tensor, logits: Tensor) -> Tensor:
    """The ensemble's logits [B, K], from those [M, B, K] of the branches and each sample's weights [B, M] of them."""
    return torch.einsum("bm,mbk->bk", shares, logits)


class Gate(nn.Module):
    """How much each branch counts for each sample, read off the shared map (Lan et al. 2018, section 3.1).

    Args:
        channels: of the map.
        branches: how many.
    """

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.channels, self.branches = channels, branches
        self.score = nn.Sequential(nn.Linear(channels, branches), nn.BatchNorm1d(branches), nn.ReLU())

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"channels": self.channels, "branches": self.branches}

    def forward(self, maps: Tensor) -> Tensor:
        """From maps [B, C, H, W] to weights [B, M] of sum 1; the activation before the softmax keeps all above 0."""
        return F.softmax(self.score(maps.mean(dim=(2, 3))), dim=1)


class Ensemble(nn.Module):
    """All branches and their gate, as one network.

    Args:
        student: the first branch, with the shared part.
        branches: the others.
        gate: weighs them.
        shared: how many stages are shared.
    """

    branches: Sequence[Role]

    def __init__(self, student: Role, branches: Sequence[Role], gate: Gate, shared: int) -> None:
        super().__init__()
        self.student, self.gate, self.shared = student, gate, shared
        self.branches = nn.ModuleList(branches)  # type: ignore[assignment]
        self.model = f"{student.model} with {1 + len(branches)} branches"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"student": self.student, "branches": list(self.branches), "gate": self.gate, "shared": self.shared}

    def forward(self, asked: Batch | Tensor) -> ModelOutput:
        """The gated logits; all else is the first branch's."""
        first = self.student(asked)
        logits, shares = self.spread(first)
        return first.replace(logits=gated(shares, logits))

    def spread(self, first: ModelOutput) -> tuple[Tensor, Tensor]:
        """What every branch says [M, B, K], and how much it counts [B, M], from the first branch's output."""
        trunk = first.stages[self.shared - 1] if self.shared else first.stem
        assert trunk is not None
        logits = [first.logits, *(branch.onward(trunk, self.shared).logits for branch in self.branches)]
        return torch.stack(logits), self.gate(trunk)


class ONE(Method):
    """Split the student's last stages into branches and teach each by the gated ensemble of all (Lan et al. 2018).

    The branches share the first stages, so the whole trains in little more time than one network; afterwards the first
    branch is the student, as large as ever. The gate learns by the labels alone: the ensemble is a constant to the
    branches that it teaches. Each branch and the ensemble are evaluated too.

    Args:
        branches: how many, the student's own included.
        shared_stages: how many stages they share; 0 for the stem alone.
        temperature: softens the ensemble and the branches.
        weight: of the divergence from the ensemble, when it is whole.
        ramp_share: over which share of the training it grows to that.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    plain_logits = "mixes logits into an ensemble that meets the labels"
    source = "Lan, Zhu, Gong: Knowledge distillation by on-the-fly native ensemble. NeurIPS 2018"
    survey_scheme = "online; self (Gou, section 4.3)"
    survey_tables = ("Gou 5", "Gou 6", "Gou section 4.3", "Alkhulaifi 1")

    branches: Sequence[Role]
    gate: Gate

    def __init__(self, *, branches: Annotated[int, Bounds(least=2, most=100)], shared_stages: Count, temperature: Positive,
                 weight: NonNegative, ramp_share: Fraction) -> None:
        super().__init__()
        self.count, self.shared, self.temperature = branches, shared_stages, temperature
        self.weight, self.ramp_share = weight, ramp_share

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow the other branches, and the gate.

        Raises:
            ValueError: the student has no stage left to split.
        """
        student = networks.student
        self.branches = nn.ModuleList([student.fork(self.shared, f"branch {number}")  # type: ignore[assignment]
                                       for number in range(2, self.count + 1)])
        trunk = student.shapes.stages[self.shared - 1] if self.shared else student.shapes.stem
        assert trunk is not None
        self.gate = Gate(trunk[0], self.count).to(next(student.parameters()).device)

    def together(self, networks: Networks) -> Ensemble:
        """The whole."""
        return Ensemble(networks.student, self.branches, self.gate, self.shared)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for each branch and for the ensemble, and the ensemble for each branch."""
        first = networks.student(batch)
        logits, shares = self.together(networks).spread(first)
        ensemble = gated(shares, logits)
        weight = self.weight * ramp(batch.epoch / batch.epochs, self.ramp_share)
        own, *others = (self.label_loss(first.replace(logits=branch), batch) for branch in logits)
        soft = torch.stack([kd(ensemble, own, self.temperature) for own in logits])
        return {"ce": own, "ce branches": torch.stack(others).sum(),
                "ensemble": self.label_loss(first.replace(logits=ensemble), batch), "kd": weight * soft.sum()}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, every further branch, and the ensemble."""
        return {"student": networks.student, **{branch.name: branch for branch in self.branches},
                "ensemble": self.together(networks)}
