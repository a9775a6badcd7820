"""On-the-fly native ensemble."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Bounds, Count, Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.branches import Branched, MeanEnsemble, trunk_of
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


class Ensemble(MeanEnsemble):
    """All branches and their gate, as one network.

    Args:
        student: the first branch, with the shared part.
        branches: the others.
        gate: weighs them.
        shared: how many stages are shared.
    """

    def __init__(self, student: Role, branches: Sequence[Role], gate: Gate, shared: int) -> None:
        super().__init__(student, branches, shared)
        self.gate = gate

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {**super().described_parts(), "gate": self.gate}

    def combined(self, answers: Sequence[ModelOutput]) -> Tensor:
        """The gated logits, from the answers of all branches."""
        assert self.shared is not None
        return gated(self.gate(trunk_of(answers[0], self.shared)), torch.stack([answer.logits for answer in answers]))


class ONE(Branched):
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

    shared: int
    gate: Gate

    def __init__(self, *, branches: Annotated[int, Bounds(least=2, most=100)], shared_stages: Count, temperature: Positive,
                 weight: NonNegative, ramp_share: Fraction) -> None:
        super().__init__(others=branches - 1, shared=shared_stages)
        self.temperature, self.weight, self.ramp_share = temperature, weight, ramp_share

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow the other branches, and the gate.

        Raises:
            ValueError: the student has no stage left to split.
        """
        super().setup(networks, data)
        shapes = networks.student.shapes
        trunk = shapes.stages[self.shared - 1] if self.shared else shapes.stem
        assert trunk is not None
        self.gate = Gate(trunk[0], 1 + self.count).to(networks.device)

    def together(self, networks: Networks) -> Ensemble:
        """The whole."""
        return Ensemble(networks.student, self.branches, self.gate, self.shared)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for each branch and for the ensemble, and the ensemble for each branch."""
        answers = self.answers(networks, batch)
        ensemble = self.together(networks).combined(answers)
        weight = self.weight * ramp(batch.epoch / batch.epochs, self.ramp_share)
        own, *others = (self.label_loss(answer, batch) for answer in answers)
        soft = torch.stack([kd(ensemble, answer.logits, self.temperature) for answer in answers])
        return {"ce": own, "ce branches": torch.stack(others).sum(),
                "ensemble": self.label_loss(answers[0].replace(logits=ensemble), batch), "kd": weight * soft.sum()}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, every further branch, and the ensemble."""
        return {**super().trained_networks(networks), "ensemble": self.together(networks)}
