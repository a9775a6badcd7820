"""Feature fusion for online mutual knowledge distillation."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from kdrun.config.constraints import Bounds, Count, Fraction, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.branches import Branched, MeanEnsemble
from kdrun.methods.losses import kd, ramp
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role
from kdrun.models.staged import initialise


class Fusion(nn.Module):
    """A classifier of several networks' last maps together (Kim et al. 2019, figure 2).

    Args:
        networks: how many.
        channels: of each one's map.
        classes: outputs.
    """

    def __init__(self, networks: int, channels: int, classes: int) -> None:
        super().__init__()
        self.networks, self.channels, self.classes = networks, channels, classes
        together = networks * channels
        self.each = nn.Sequential(nn.Conv2d(together, together, 3, 1, 1, groups=together, bias=False),
                                  nn.BatchNorm2d(together))
        self.mixed = nn.Sequential(nn.Conv2d(together, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.head = nn.Linear(channels, classes)
        initialise(self)

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"networks": self.networks, "channels": self.channels, "classes": self.classes}

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """From a map [B, C, H, W] of each network to logits [B, K]."""
        return self.head(relu(self.mixed(relu(self.each(torch.cat([*maps], dim=1))))).mean(dim=(2, 3)))


class Fused(MeanEnsemble):
    """A student, those beside it and what fuses their maps, as one network.

    Args:
        student: the first.
        branches: the others.
        fusion: classifies their maps.
        shared: how many stages they share; None for none.
    """

    def __init__(self, student: Role, branches: Sequence[Role], fusion: Fusion, shared: int | None = None) -> None:
        super().__init__(student, branches, shared)
        self.fusion = fusion
        self.model = f"fusion of {self.model}"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {**super().described_parts(), "fusion": self.fusion}

    def combined(self, answers: Sequence[ModelOutput]) -> Tensor:
        """The logits of the fused maps."""
        return self.fusion([answer.stages[-1] for answer in answers])


class FFL(Branched):
    """Fuse the maps of networks into a classifier that teaches each, and is taught by their mean (Kim et al. 2019).

    All learn from the labels too. The fused classifier's labels move the networks as well, as in the authors' code. The
    networks are branches of one, or stand apart; each of them is evaluated, and so is the fused classifier.

    The authors let the fusion have an optimizer of its own; here it has its own weight decay in that of all, which does the
    same where rate and momentum are one.

    Args:
        networks: how many, the student included.
        shared_stages: how many stages all share; 0 for the stem alone, null for separate networks.
        temperature: softens all answers.
        weight: of each divergence, when it is whole.
        ramp_share: over which share of the training it grows to that.
        fusion_decay: weight decay of the fusion.
        detach_features: whether the fused classifier leaves the networks alone.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("response", "feature")
    plain_logits = "has a classifier of its own, whose logits meet the labels"
    source = "Kim, Hyun, Chung, Kwak: Feature fusion for online mutual knowledge distillation. arXiv 1904.09058, 2019"
    survey_scheme = "online"
    survey_tables = ("Alkhulaifi 2",)

    fusion: Fusion

    def __init__(self, *, networks: Annotated[int, Bounds(least=2, most=100)], shared_stages: Count | None,
                 temperature: Positive, weight: NonNegative, ramp_share: Fraction, fusion_decay: NonNegative,
                 detach_features: bool) -> None:
        super().__init__(others=networks - 1, shared=shared_stages)
        self.temperature, self.weight, self.ramp_share = temperature, weight, ramp_share
        self.fusion_decay, self.detach_features = fusion_decay, detach_features

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow the branches where there are no separate networks, and the fusion.

        Raises:
            ValueError: the student has no stage left to split.
        """
        super().setup(networks, data)
        shapes = networks.student.shapes
        self.fusion = Fusion(1 + self.count, shapes.stages[-1][0], data.task.outputs).to(networks.device)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's, in which the fusion decays by a number of its own."""
        own = {id(weight) for weight in self.fusion.parameters()}
        optimizer = recipe.build(weight for weight in weights if id(weight) not in own)
        optimizer.add_param_group({"params": [weight for weight in weights if id(weight) in own],
                                   "weight_decay": self.fusion_decay})
        return optimizer

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for each network and the fusion, the fusion for each network, and their mean for the fusion."""
        answers = self.answers(networks, batch)
        maps = [answer.stages[-1].detach() if self.detach_features else answer.stages[-1] for answer in answers]
        fused, logits = self.fusion(maps), torch.stack([answer.logits for answer in answers])
        own, *others = (self.label_loss(answer, batch) for answer in answers)
        weight = self.weight * ramp(batch.epoch / batch.epochs, self.ramp_share)
        taught = torch.stack([kd(fused, one, self.temperature) for one in logits]).sum()
        return {"ce": own, "ce others": torch.stack(others).sum(),
                "fusion": self.label_loss(answers[0].replace(logits=fused), batch),
                "kd": weight * taught, "mean": weight * kd(logits.mean(dim=0), fused, self.temperature)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, each beside it, and all with what fuses them."""
        return {**super().trained_networks(networks),
                "fusion": Fused(networks.student, self.beside(networks), self.fusion, self.shared)}
