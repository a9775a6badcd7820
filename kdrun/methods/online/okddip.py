"""Online distillation with diverse peers."""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Bounds, Count, Fraction, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.branches import Branched
from kdrun.methods.losses import kd, ramp
from kdrun.models.roles import Networks


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """How much each peer heeds each other: rows of sum 1 [B, M, M], from projections [M, B, d] (Chen et al. 2020, eq. 4)."""
    return F.softmax(torch.einsum("abd,cbd->bac", queries, keys), dim=2)


def targets(shares: Tensor, logits: Tensor) -> Tensor:
    """What each peer is taught: logits [M, B, K], mixed by its own row of the weights [B, M, M]."""
    return torch.einsum("bac,cbk->abk", shares, logits)


class OKDDip(Branched):
    """Let auxiliary peers teach one another by attention, and their mean teach the student (Chen et al. 2020).

    Each auxiliary peer heeds the peers (itself too) by the likeness of projected embeddings, so that each has a target
    of its own and they stay diverse; the student leads and is heeded by nobody. Logits are mixed, as in the authors'
    code (the paper mixes softened probabilities). The projections learn through the targets alone, so targets must not be
    constants.

    Args:
        auxiliaries: how many peers beside the student.
        shared_stages: how many stages all share; 0 for the stem alone, null for separate networks.
        temperature: softens all answers.
        weight: of both divergences, when it is whole.
        ramp_share: over which share of the training it grows to that.
        gradient: what targets move: `all`, as in the authors' code, draws those who teach towards those they teach;
            `attention` moves the projections (and the embeddings they read) alone.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    plain_logits = ""
    source = "Chen, Mei, Wang, Feng, Chen: Online knowledge distillation with diverse peers. AAAI 2020"
    survey_scheme = "online"
    survey_tables = ("Gou section 4.2", "Alkhulaifi 1", "Zhu section III-D")

    def __init__(self, *, auxiliaries: Annotated[int, Bounds(least=2, most=100)], shared_stages: Count | None,
                 temperature: Positive, weight: NonNegative, ramp_share: Fraction,
                 gradient: Literal["all", "attention"]) -> None:
        super().__init__(others=auxiliaries, shared=shared_stages, called="peer")
        self.temperature, self.weight, self.ramp_share, self.gradient = temperature, weight, ramp_share, gradient

    def setup(self, networks: Networks, data: Data) -> None:
        """Grow the branches where there are no separate networks, and the two projections.

        Raises:
            ValueError: the student has no stage left to split.
        """
        super().setup(networks, data)
        width = networks.student.shapes.embedding[0]
        place = networks.device
        self.query, self.key = (nn.Linear(width, max(width // 8, 1), bias=False).to(place) for _ in range(2))

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for all, the peers' attention for each of them, and their mean for the student."""
        leader, *peers = self.answers(networks, batch)
        logits, embeddings = torch.stack([peer.logits for peer in peers]), torch.stack([peer.embedding for peer in peers])
        taught = logits if self.gradient == "all" else logits.detach()
        wanted = targets(attention(self.query(embeddings), self.key(embeddings)), taught)
        mutual = torch.stack([kd(*pair, self.temperature, train_teacher=True)
                              for pair in zip(wanted, logits, strict=True)]).sum()
        weight = self.weight * ramp(batch.epoch / batch.epochs, self.ramp_share)
        return {"ce": self.label_loss(leader, batch),
                "ce peers": torch.stack([self.label_loss(peer, batch) for peer in peers]).sum(),
                "peers": weight * mutual,
                "leader": weight * kd(taught.mean(dim=0), leader.logits, self.temperature, train_teacher=True)}
