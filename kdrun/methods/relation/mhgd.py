"""Multi-head graph distillation."""

import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.clipping import clipped
from kdrun.methods.losses import kl, unit_rows
from kdrun.methods.losses.layers import aligned_directions
from kdrun.methods.relation.kdsvd import same_channels, share
from kdrun.models.roles import Networks


def normal(width: int) -> nn.BatchNorm1d:
    """A normalisation by the batch, always: what the authors' does, in training and afterwards."""
    return nn.BatchNorm1d(width, track_running_stats=False)


class Attention(nn.Module):
    """How much each sample of a batch attends to each other, from one stage to the next, in several heads.

    Args:
        before: size of a sample's vector at the earlier stage.
        after: at the later one.
        heads: how many.
    """

    def __init__(self, before: int, after: int, heads: int) -> None:
        super().__init__()
        self.heads, width = heads, (before + after) // 2
        self.sender = nn.Sequential(nn.Linear(after, width * heads), normal(width * heads))
        self.receiver = nn.Sequential(nn.Linear(before, width * heads), normal(width * heads))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Scores [heads, B, B] of vectors [B, D] at the earlier stage and [B, D'] at the later."""
        sent, received = (made.unflatten(1, (-1, self.heads)) for made in (self.sender(after), self.receiver(before)))
        return torch.einsum("bdh,cdh->hbc", sent, received)


class Estimator(nn.Module):
    """Guesses a sample's vector at a stage from those of the batch at the stage before, by the attention between them.

    Args:
        before: size of a vector at the earlier stage.
        after: at the later one.
        heads: how many heads the attention has.
    """

    def __init__(self, before: int, after: int, heads: int) -> None:
        super().__init__()
        width = (before + after) // 2
        self.values = nn.Sequential(nn.Linear(before, width), normal(width), nn.ReLU())
        self.out = nn.Linear(width * heads, after)

    def forward(self, before: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
        """Vectors [B, D'] of length one, from [B, D], scores [heads, B, B] and which heads are kept [heads, B, 1]."""
        seen = (scores.softmax(dim=2) * kept) @ self.values(before)
        return unit_rows(self.out(seen.transpose(0, 1).flatten(1)))


class MHGD(Method):
    """Match graphs of a batch whose edges are attention from one stage to the next, in many heads (Lee and Song 2019).

    Each sample's map is one vector: the right singular vector of its largest singular value, the student's aligned with the
    teacher's as in `kdsvd`. First, on the teacher alone, heads of attention learn to guess a sample's vector from those that
    the batch had a stage before, some heads left out at random. Then they stay as they are, and the student's attention
    follows the teacher's (row by row, the divergence of the teacher's softmax from the student's, after a tanh). Stages need
    equal channels; the sizes of maps may differ.

    As in the authors' code the normalisations between take the statistics of the batch at hand, and the gradient of the
    divergence is cut to the length of the labels'. Its sum over heads and samples is a mean here, and the weight makes up for
    it.

    A student that taught itself would learn attention from an untrained network, so `scheme=self` is not offered.

    Args:
        heads: of the attention.
        graph_epochs: of the first phase.
        weight: of the divergence, averaged over heads and samples, summed over pairs of stages.
        ce_weight: of the cross-entropy with the labels.
        clip: whether the gradient of the divergence is cut, as in `kdsvd`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps",)
    knowledge = ("relation",)
    structural = True
    source = "Lee, Song: Graph-based knowledge distillation by multi-head attention network. BMVC 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 2", "Gou section 6.4")

    attentions: nn.ModuleList
    estimators: nn.ModuleList

    def __init__(self, *, heads: AtLeastOne, graph_epochs: Epochs, weight: NonNegative, ce_weight: NonNegative,
                 clip: bool) -> None:
        super().__init__()
        self.heads, self.graph_epochs = heads, graph_epochs
        self.weight, self.ce_weight, self.clip = weight, ce_weight, clip

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the attention and the estimator of each pair of consecutive stages.

        Raises:
            ValueError: the stages do not pair up in number and channels.
        """
        sizes = list(itertools.pairwise(same_channels(networks, "a graph of singular vectors")))
        self.attentions = nn.ModuleList(Attention(*pair, self.heads) for pair in sizes).to(networks.device)
        self.estimators = nn.ModuleList(Estimator(*pair, self.heads) for pair in sizes).to(networks.device)

    def vectors(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """A vector [B, C] of every sample at every stage: the teacher's, and the student's that go with them."""
        pairs = [aligned_directions(*maps, count=1) for maps in zip(teacher, student, strict=True)]
        return [wanted[:, :, 0] for wanted, _ in pairs], [given[:, :, 0] for _, given in pairs]

    def estimate(self, networks: Networks, batch: Batch) -> Terms:
        """How far the guesses of the teacher's vectors are from them, by their cosine."""
        stages = [maps.detach() for maps in networks.teacher(batch).stages]
        vectors, _ = self.vectors(stages, stages)
        apart = []
        for (before, after), attention, estimator in zip(itertools.pairwise(vectors), self.attentions, self.estimators,
                                                         strict=True):
            draws = torch.randn(self.heads, len(before), 1, generator=self.random).to(before.device)
            guessed = estimator(before, attention(before, after), (draws > draws.mean(dim=0)).to(before.dtype))
            apart.append(1 - (guessed * after).sum(dim=1).mean())
        return {"estimate": torch.stack(apart).sum()}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The attention on the teacher, then the student."""
        self.setup(run.networks, run.data)
        yield Phase("graph", loss=self.estimate, train=[self.attentions, self.estimators], epochs=self.graph_epochs,
                    constant_rate=True, evaluate=False)
        self.attentions.requires_grad_(False)
        self.estimators = nn.ModuleList()
        yield Phase()

    def graphs(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """The edges [heads * B, B] of each pair of stages, each from -1 to 1."""
        return [attention(*pair).tanh().flatten(0, 1)
                for attention, pair in zip(self.attentions, itertools.pairwise(vectors), strict=True)]

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and graphs."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        ce = self.ce_weight * self.label_loss(student, batch)
        wanted, given = (self.graphs(vectors) for vectors in self.vectors(teacher.stages, student.stages))
        # the student's divergence from the teacher, the other way round than usual
        apart = [kl(own, target.detach(), train_teacher=True) for target, own in zip(wanted, given, strict=True)]
        graph = self.weight * torch.stack(apart).sum()
        if self.clip:
            graph = clipped(graph, ce, networks.student.parameters(), share(batch.epoch))
        return {"ce": ce, "graph": graph}
