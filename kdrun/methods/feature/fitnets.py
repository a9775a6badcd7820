"""FitNets: hints from a middle layer."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.losses.feature import hint as hint_loss
from kdrun.models.roles import Networks


def regressor(student: torch.Size, teacher: torch.Size) -> nn.Sequential:
    """A convolution, normalisation and activation from maps of one shape [C, H, W] to another (Romero et al., 2.2).

    Raises:
        ValueError: no convolution of the family leads from one size to the other.
    """
    (before, high, wide), (after, *wanted) = student, teacher
    layer: nn.Module
    if [high, wide] == [2 * side for side in wanted]:
        layer = nn.Conv2d(before, after, 3, stride=2, padding=1)
    elif [2 * high, 2 * wide] == wanted:
        layer = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
    elif high >= wanted[0] and wide >= wanted[1]:
        layer = nn.Conv2d(before, after, (1 + high - wanted[0], 1 + wide - wanted[1]))
    else:
        raise ValueError(f"a hint of {wanted[0]}x{wanted[1]} cannot be regressed from a guided map of {high}x{wide}; "
                         "choose another method.hint_stage or method.guided_stage")
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())


class FitNets(Method):
    """Regress a middle map of the teacher from a middle map of the student (Romero et al. 2015).

    `two_phase` is the paper's: first the student up to its guided layer learns the hint alone (equation 3) at a constant
    rate, then the regressor is dropped and the whole student learns from labels and softened answers (equation 4), the
    latter's weight falling linearly. `joint` is what other toolkits call FitNet: hint and labels together, all the way.

    Args:
        mode: `two_phase` or `joint`.
        hint_stage: of the teacher, from 1.
        guided_stage: of the student, from 1.
        hint_weight: of the hint in `joint`.
        hint_epochs: of the first phase.
        temperature: of the second phase.
        ce_weight: of the cross-entropy with the labels.
        kd_start: weight of the softened answers in the first epoch of the second phase.
        kd_end: in its last.
    """

    needs = ("maps",)
    knowledge = ("feature",)
    source = "Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: hints for thin deep nets. ICLR 2015"
    survey_scheme = "offline"
    survey_tables = ("Gou 1",)
    cautions: ClassVar = {
        "self": "under scheme=self it was measured below the student alone: on 200 digits resnet8 ended at 93.1 ± 1.2 %, alone "
                "at 95.1 ± 0.1 % (three seeds)"}

    regressor: nn.Sequential | None

    def __init__(self, *, mode: Literal["two_phase", "joint"], hint_stage: AtLeastOne, guided_stage: AtLeastOne,
                 hint_weight: NonNegative, hint_epochs: Epochs, temperature: Positive, ce_weight: NonNegative,
                 kd_start: NonNegative, kd_end: NonNegative) -> None:
        super().__init__()
        self.mode, self.hint_stage, self.guided_stage = mode, hint_stage, guided_stage
        self.hint_weight, self.hint_epochs, self.temperature = hint_weight, hint_epochs, temperature
        self.ce_weight, self.kd_start, self.kd_end = ce_weight, kd_start, kd_end

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the regressor.

        Raises:
            ValueError: a stage that is not there, or maps that no regressor connects.
        """
        student, teacher = networks.student.shapes.stages, networks.teacher.shapes.stages
        for key, wanted, stages, who in (("guided_stage", self.guided_stage, student, "student"),
                                         ("hint_stage", self.hint_stage, teacher, "teacher")):
            if wanted > len(stages):
                raise ValueError(f"method.{key} is {wanted}, but the {who} has {len(stages)} stages")
        self.regressor = regressor(student[self.guided_stage - 1], teacher[self.hint_stage - 1]).to(
            networks.device)

    def maps(self, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """The regressed guided map and the hint."""
        assert self.regressor is not None
        guided = networks.student(batch).stages[self.guided_stage - 1]
        return self.regressor(guided), networks.teacher(batch).stages[self.hint_stage - 1].detach()

    def hint(self, networks: Networks, batch: Batch) -> Terms:
        """The hint alone: half the squared distance over channels, averaged over places and samples (equation 3)."""
        regressed, hint = self.maps(networks, batch)
        return {"hint": hint_loss(hint, regressed)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The hint, then everything; or both together."""
        self.setup(run.networks, run.data)
        if self.mode == "two_phase":
            assert self.regressor is not None
            yield Phase("hint", loss=self.hint, train=[*run.networks.student.until(self.guided_stage), self.regressor],
                        epochs=self.hint_epochs, constant_rate=True, evaluate=False)
            self.regressor = None
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels, with softened answers or with the hint."""
        terms = {"ce": self.ce_weight * self.label_loss(networks.student(batch), batch)}
        if self.mode == "joint":
            regressed, hint = self.maps(networks, batch)
            return {**terms, "hint": self.hint_weight * (regressed - hint).square().mean()}
        done = batch.epoch / max(batch.epochs - 1, 1)
        weight = self.kd_start + (self.kd_end - self.kd_start) * done
        student, teacher = networks.student(batch).logits, networks.teacher(batch).logits
        return {**terms, "kd": weight * soft_cross_entropy(teacher, student, self.temperature)}
