"""Dense cross-layer mutual distillation."""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from kdrun.config.constraints import Few, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.branches import exit_answers, exits_of
from kdrun.methods.losses.response import dcm
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks, Role


class DCM(Mutual):
    """Give two networks exits after their stages, each taught by all ends and exits of the other (Yao and Sun 2020).

    All learn from the labels as well, by one optimizer and from one forward pass; within a network nobody teaches. What
    is deployed is the end of each alone; the exits are evaluated as networks of their own.

    An exit is a copy of the stages after it, with first weights of its own. The authors build it for each architecture by
    hand: of a wide ResNet, half as many blocks in the last stage of the first exit, and twice the channels in the second.

    On the digits (resnet8 and a peer that differs by its first weights alone, default settings, three seeds) the student
    ended at 98.3 ± 0.2 % and the peer at 98.6 ± 0.3 %; alone it has 98.6 ± 0.1 %.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks. Of more
            than one, all pairs of networks teach each other.
        weight: of the divergences, which are summed.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Yao, Sun: Knowledge transfer via dense cross-layer mutual-distillation. ECCV 2020"
    survey_scheme = "online"
    survey_tables = ("Gou 6",)

    exits: Sequence[Sequence[Role]]

    def __init__(self, *, peers: Few | list[NetworkName], weight: NonNegative) -> None:
        super().__init__(peers=peers)
        self.weight = weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow the exits of every network.

        Raises:
            ValueError: a network has one stage only, or does not tell its stages apart.
        """
        self.exits = nn.ModuleList([exits_of(role, copies=True)  # type: ignore[assignment, misc]
                                    for role in (networks.student, *networks.peers)])

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """One: all learn by one optimizer."""
        return {"student": [networks.student, *networks.peers, self]}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for all ends and exits, and those of each network for those of every other."""
        own, *others = (role(batch) for role in (networks.student, *networks.peers))
        groups = [[end, *exit_answers(end, exits)] for end, exits in zip((own, *others), self.exits, strict=True)]
        hard = [self.label_loss(answer, batch) for answer in itertools.chain(*groups) if answer is not own]
        logits = [[answer.logits for answer in group] for group in groups]
        mutual = [dcm(first, second) for first, second in itertools.combinations(logits, 2)]
        return {"ce": self.label_loss(own, batch), "ce others": torch.stack(hard).sum(),
                "mutual": self.weight * torch.stack(mutual).sum()}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, each peer, and the network up to each exit."""
        return {**super().trained_networks(networks), **{leave.name: leave for exits in self.exits for leave in exits}}
