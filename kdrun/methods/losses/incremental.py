"""Losses between a network and its own past, by which it learns further classes.

Conventions as in `arithmetic`: the past comes first and gets no gradient, the student second.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import row_mean, unit_rows

__all__ = ["cosine_distance", "global_targets", "margin_nca", "margin_ranking", "pod", "sigmoid_distillation", "uniformity"]


def sigmoid_distillation(past: Tensor, student: Tensor) -> Tensor:
    """Binary cross-entropies of each class against the past's sigmoid, summed over classes.

    Source: Rebuffi et al., iCaRL: Incremental classifier and representation learning, CVPR 2017, algorithm 3.

    Args:
        past: logits [B, K] of the old classes.
        student: logits [B, K].

    Example:
        >>> sigmoid_distillation(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0]]))  # twice log 2
        tensor(1.3863)
    """
    return row_mean(F.binary_cross_entropy_with_logits(student, past.detach().sigmoid(), reduction="none").sum(dim=1))


def cosine_distance(past: Tensor, student: Tensor) -> Tensor:
    """One minus the cosine of embeddings.

    Source: Hou et al., Learning a unified classifier incrementally via rebalancing, CVPR 2019, equation 6.

    Args:
        past: [B, D].
        student: [B, D].

    Example:
        >>> cosine_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor(0.2929)
    """
    return row_mean(1 - (unit_rows(past.detach()) * unit_rows(student)).sum(dim=1))


def margin_ranking(cosines: Tensor, labels: Tensor, old: int, count: int, margin: float) -> Tensor:
    """Keep samples of old classes nearer to their own class than to the nearest new ones, by a margin.

    Source: Hou et al., Learning a unified classifier incrementally via rebalancing, CVPR 2019, equation 8, with the mean
    over samples and classes of the release.

    Args:
        cosines: [B, K] with all classes, the old ones first.
        labels: [B].
        old: how many old classes there are; samples of others do not count.
        count: of the new classes with the highest cosines; all, where there are fewer.
        margin: by which.

    Example:
        >>> margin_ranking(torch.tensor([[0.6, 0.4, 0.1]]), torch.tensor([0]), old=1, count=1, margin=0.5)
        tensor(0.3000)
    """
    kept = labels < old
    own = cosines[kept].gather(1, labels[kept, None])
    others = cosines[kept, old:]
    nearest = others.topk(min(count, others.shape[1]), dim=1).values
    return row_mean((margin - own + nearest).clamp_min(0))


def pod(past: Tensor, student: Tensor) -> Tensor:
    """The distance of squared maps, summed over their width and over their height, as one vector of length one a sample.

    Source: Douillard et al., PODNet: Pooled outputs distillation for small-tasks incremental learning, ECCV 2020,
    equation 4 (POD-spatial), with squares and lengths as in the release.

    Args:
        past: maps [B, C, H, W].
        student: maps of the same shape.

    Example:
        >>> past, student = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> past[0, 0, 0, 0] = student[0, 0, 1, 1] = 1
        >>> pod(past, student)  # two orthogonal vectors
        tensor(1.4142)
    """
    def pooled(maps: Tensor) -> Tensor:
        squares = maps.square()
        return unit_rows(torch.cat([squares.sum(dim=3).flatten(1), squares.sum(dim=2).flatten(1)], dim=1))

    # a root at zero, where both agree, has no gradient; a clamped entry has a gradient of zero
    return row_mean((pooled(past.detach()) - pooled(student)).square().sum(dim=1).clamp_min(1e-24).sqrt())


def margin_nca(cosines: Tensor, labels: Tensor, scale: Tensor | float, margin: float) -> Tensor:
    """Neighbourhood component analysis of proxies, with a margin: a softmax without the own class in its denominator.

    Source: Douillard et al., PODNet, ECCV 2020, equation 9. The margin is a constant for the scale, which would otherwise
    fall below zero before the classes are that far apart.

    Args:
        cosines: [B, K].
        labels: [B].
        scale: of the cosines; may learn.
        margin: that the own class is to be ahead by.

    Example:
        >>> margin_nca(torch.tensor([[0.9, 0.2, 0.1]]), torch.tensor([0]), 1.0, 0.6)
        tensor(0.5444)
    """
    own = cosines.gather(1, labels[:, None])
    others = (scale * cosines).scatter(1, labels[:, None], -torch.inf)
    kept = scale.detach() if isinstance(scale, Tensor) else scale
    return row_mean((torch.logsumexp(others, dim=1) - scale * own[:, 0] + kept * margin).clamp_min(0))


def global_targets(past: Tensor, expert: Tensor) -> Tensor:
    """Probabilities over all classes from those of the past over the old ones and of an expert over the new ones.

    The past's highest probability stays what it is; what is left is shared between the other classes of both by their
    number.

    Source: Lee et al., Overcoming catastrophic forgetting with unlabeled data in the wild, ICCV 2019, equation 6.

    Args:
        past: probabilities [B, old].
        expert: probabilities [B, new].

    Returns:
        [B, old + new], each row of sum 1.

    Example:
        >>> global_targets(torch.tensor([[0.8, 0.2]]), torch.tensor([[1.0]]))
        tensor([[0.8000, 0.1000, 0.1000]])
    """
    old, new = past.shape[1], expert.shape[1]
    highest, where = past.max(dim=1, keepdim=True)
    shared = (past * ((old - 1) / (old + new - 1))).scatter(1, where, highest)
    return torch.cat([shared, expert * (1 - highest) * (new / (old + new - 1))], dim=1)


def uniformity(logits: Tensor) -> Tensor:
    """How far probabilities are from equal ones: the KL divergence of the equal ones from them.

    Source: Lee et al., Overcoming catastrophic forgetting with unlabeled data in the wild, ICCV 2019, equation 8.

    Args:
        logits: [B, K].

    Example:
        >>> uniformity(torch.tensor([[0.0, 0.0]]))
        tensor(0.)
    """
    equal = torch.full_like(logits, 1 / logits.shape[1])
    return row_mean(F.kl_div(F.log_softmax(logits, dim=1), equal, reduction="none").sum(dim=1))
