"""Stage-by-stage distillation."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import same_size
from kdrun.models.roles import Networks


def shares(epochs: int, parts: int) -> list[int]:
    """So many epochs in so many parts as equal as can be, each of at least one."""
    return [max(1, epochs * (part + 1) // parts - epochs * part // parts) for part in range(parts)]


class StageByStage(Method):
    """Train one stage after the other to match the teacher's map, then the classifier alone (Gao et al. 2018).

    While a stage learns, those before it stay as they are, and it sees what they make; only the classifier sees labels.
    There is no loss weight to choose. Networks must have equally many stages; where their maps differ in size the
    larger is averaged down.

    An approximation where the paper's settings were not found: the recipe's epochs are divided equally among the stages
    and the classifier, each with the recipe's whole schedule; all are trained by Adam; and a linear map of channels,
    dropped afterwards, connects stages of other widths.

    A student that taught itself would copy an untrained network, so `scheme=self` is not offered.

    On the digits (resnet8 taught by wrn_16_2, default settings, three seeds) it ends below the baseline's 98.6 ± 0.1 %:
    at 97.0 ± 0.3 %; the budget of one training is split over four short phases.

    Args:
        lr: of Adam, at its height.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps",)
    knowledge = ("feature",)
    source = "Gao, Shen, Dou, Xiong, Li, Song: An embarrassingly simple approach for knowledge distillation. " \
             "arXiv 1812.01819, 2018"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 2",)

    adapters: nn.ModuleList

    def __init__(self, *, lr: Positive) -> None:
        super().__init__()
        self.lr = lr

    def setup(self, networks: Networks, data: Data) -> None:
        """Build an adapter for every stage whose channels differ.

        Raises:
            ValueError: the stages do not pair up.
        """
        self.adapters = nn.ModuleList(
            nn.Identity() if before[0] == after[0] else nn.Conv2d(before[0], after[0], 1)
            for before, after in networks.paired_stages("stage-by-stage training")).to(networks.device)

    def match(self, networks: Networks, batch: Batch, stage: int) -> Terms:
        """The mean squared difference of one stage, counted from 1."""
        adapted = self.adapters[stage - 1](networks.student(batch).stages[stage - 1])
        return {"stage": F.mse_loss(*same_size(adapted, networks.teacher(batch).stages[stage - 1].detach()))}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The stages, then the classifier."""
        self.setup(run.networks, run.data)
        student, count = run.networks.student, len(self.adapters)
        *each, last = shares(run.recipe.epochs, count + 1)
        for stage, epochs in enumerate(each, start=1):
            before = student.until(stage - 1) if stage > 1 else []
            yield Phase(f"stage {stage}", loss=partial(self.match, stage=stage), epochs=epochs, evaluate=False,
                        train=[*student.until(stage)[len(before):], self.adapters[stage - 1]])
        self.adapters = nn.ModuleList()
        backbone = student.until(count)
        for part in backbone:
            part.requires_grad_(False)
        yield Phase("classifier", train=[student], epochs=last)
        for part in backbone:
            part.requires_grad_(True)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the student's parts; whoever else learns does so by the recipe."""
        return torch.optim.Adam(weights, lr=self.lr, fused=True) if player == "student" else recipe.build(weights)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels."""
        return {"ce": self.label_loss(networks.student(batch), batch)}
