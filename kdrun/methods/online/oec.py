"""Online ensemble compression."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.branches import Branched, MeanEnsemble
from kdrun.methods.losses import kd, same_size
from kdrun.models.roles import Networks


class OEC(Branched):
    """Train networks of several widths on one stem, taught by their mean and the widest's maps (Walawalkar et al. 2020).

    All learn from the labels too. Maps are compared stage by stage after a 1x1 convolution for each, which is dropped
    afterwards. Every network is evaluated, and so is their ensemble: one training makes students for several budgets.

    The authors count from the widest, whose compressed forms the others are. Here widths are counted from the student, so
    that it is the network that is trained alone for comparison, whichever place it has among the others.

    Args:
        others: the widths of the other networks, times those of the student.
        temperature: softens the ensemble and each network.
        ce_weight: of the cross-entropy of each network with the labels.
        map_weight: of the mean squared difference of each network's maps from those of the widest.
        kd_weight: of the divergence of each network from the ensemble.
        detach_widest: whether the widest's maps are a constant to the others; in the authors' code they move towards them.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("response", "feature")
    source = "Walawalkar, Shen, Savvides: Online ensemble model compression using knowledge distillation. ECCV 2020"
    survey_scheme = "online"
    survey_tables = ("Alkhulaifi 2",)

    adapters: Sequence[Sequence[nn.Module]]

    def __init__(self, *, others: list[Positive], temperature: Positive, ce_weight: NonNegative, map_weight: NonNegative,
                 kd_weight: NonNegative, detach_widest: bool) -> None:
        if not others:
            raise ValueError("method.others: the student needs at least one other")
        super().__init__(others=len(others), shared=0)
        self.factors, self.temperature = others, temperature
        self.ce_weight, self.map_weight, self.kd_weight = ce_weight, map_weight, kd_weight
        self.detach_widest = detach_widest
        widths = [1.0, *others]
        self.widest = widths.index(max(widths))

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, after the others have come."""
        run.networks.peers = run.factory.scaled_peers(self.factors)
        yield from super().phases(run)

    def setup(self, networks: Networks, data: Data) -> None:
        """Put all on one stem, and build a layer for each map that is to be compared.

        Raises:
            ValueError: the networks do not tell their stages apart, or need stems of their own.
        """
        self.branches = []  # those beside the student are its peers
        together = [networks.student, *networks.peers]
        stem = networks.student.until(0)[0]
        for peer in networks.peers:
            if peer.shapes.stem != networks.student.shapes.stem:
                raise ValueError(f"method.others: the stem of {networks.student.model} goes with its widths, so that others "
                                 "cannot share it; choose a student whose stem does not, like resnet8 or wrn_16_1")
            peer.network.stem = stem
        shapes = [role.shapes.stages for role in together]
        self.adapters = nn.ModuleList([  # type: ignore[assignment]
            nn.ModuleList([nn.Conv2d(before[0], after[0], 1) for before, after in zip(own, shapes[self.widest], strict=True)])
            for number, own in enumerate(shapes) if number != self.widest]).to(networks.device)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, the ensemble and the widest's maps, for all."""
        answers = self.answers(networks, batch)
        own, *others = (self.label_loss(answer, batch) for answer in answers)
        ensemble = torch.stack([answer.logits for answer in answers]).mean(dim=0)
        soft = torch.stack([kd(ensemble, answer.logits, self.temperature) for answer in answers])
        wanted = [maps.detach() if self.detach_widest else maps for maps in answers[self.widest].stages]
        rest = [answer for number, answer in enumerate(answers) if number != self.widest]
        apart = [F.mse_loss(*same_size(adapter(given), target))
                 for answer, adapters in zip(rest, self.adapters, strict=True)
                 for adapter, given, target in zip(adapters, answer.stages, wanted, strict=True)]
        return {"ce": self.ce_weight * own, "ce others": self.ce_weight * torch.stack(others).sum(),
                "maps": self.map_weight * torch.stack(apart).sum(), "kd": self.kd_weight * soft.sum()}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Each network, and their ensemble."""
        return {**super().trained_networks(networks),
                "ensemble": MeanEnsemble(networks.student, self.beside(networks), self.shared)}
