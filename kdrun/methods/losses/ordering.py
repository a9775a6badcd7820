"""Losses of who is nearer to whom: contrast with negatives, orders of triplets, rankings of a batch.

All take the teacher's side first, which gets no gradient, and return a scalar; embeddings [B, D] of teacher and student may
differ in D.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kdrun.methods.losses.arithmetic import distances, unit_rows

__all__ = ["crd", "darkrank_hard", "darkrank_soft", "ranking_scores", "triplet_order"]

EPSILON = 1e-7


def crd(scores: Tensor, samples: int) -> Tensor:
    """Noise-contrastive loss of one positive among many negatives.

    Source: Tian, Krishnan, Isola, Contrastive representation distillation, ICLR 2020, equation 10 in the authors' code.

    Args:
        scores: of a critic, [B, 1 + N] above zero; the positive comes first.
        samples: how many samples negatives are drawn from.

    Returns:
        A scalar: the mean over the batch, the sum over the positive and its N negatives.

    Example:
        >>> crd(torch.full((3, 2), 0.5), samples=2)  # 2 log 2
        tensor(1.3863)
    """
    noise = (scores.shape[1] - 1) / samples
    positive = (scores[:, 0] / (scores[:, 0] + noise + EPSILON)).log()
    negatives = (noise / (scores[:, 1:] + noise + EPSILON)).log().sum(dim=1)
    return -(positive + negatives).mean()


def triplet_leads(embedding: Tensor, triplets: Tensor) -> Tensor:
    """How much nearer a triplet's second sample is to its first than its third is: [T], for an embedding [B, D].

    Distances are squared, between vectors of length one.
    """
    first, second, third = unit_rows(embedding)[triplets].unbind(dim=1)
    return (first - third).square().sum(dim=1) - (first - second).square().sum(dim=1)


def triplet_order(teachers: Sequence[Tensor], student: Tensor, triplets: Tensor, margin: float) -> Tensor:
    """By how much an embedding breaks the order of distances that most teachers see.

    Source: You et al., Learning from multiple teacher networks, KDD 2017.

    Args:
        teachers: embeddings [B, D], each of its own D.
        student: embedding [B, D].
        triplets: rows [T, 3] of the batch.
        margin: how much nearer the nearer sample has to be.

    Returns:
        The mean hinge over the triplets on which the teachers do not split evenly; 0 where there is none.

    Example:
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> triplet_order([teacher], student, torch.tensor([[0, 1, 2]]), margin=0.5)  # 2 the wrong way, and the margin
        tensor(2.5000)
    """
    votes = torch.stack([triplet_leads(one.detach(), triplets).sign() for one in teachers]).sum(dim=0)
    broken = torch.relu(margin - votes.sign() * triplet_leads(student, triplets))
    decided = (votes != 0).to(broken.dtype)
    return (broken * decided).sum() / decided.sum().clamp_min(1)


def ranking_scores(embedding: Tensor, scale: float, power: float) -> Tensor:
    """How similar each row of [B, D] is to each other, [B, B]: -scale * distance**power of rows of length one.

    Source: Chen, Wang, Zhang, DarkRank, AAAI 2018.

    Example:
        >>> ranking_scores(torch.tensor([[2.0], [-1.0]]), scale=3.0, power=3.0)[0, 1]  # 1 and -1 are 2 apart
        tensor(-24.)
    """
    return -scale * distances(unit_rows(embedding)).pow(power)


def top_candidates(teacher: Tensor, length: int | None) -> Tensor:
    """Which rows of the batch score highest in the teacher's scores [B, B], best first and without the query: [B, n]."""
    own = torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    order = teacher.detach().masked_fill(own, -math.inf).argsort(dim=1, descending=True, stable=True)
    return order[:, :len(teacher) - 1][:, :length]


def ordered_likelihood(scores: Tensor) -> Tensor:
    """Log-probability [...] that candidates of these scores [..., n] are drawn one after the other in this order."""
    left = scores.flip(-1).logcumsumexp(dim=-1).flip(-1)  # of what is left when each is drawn
    return (scores - left).sum(dim=-1)


def darkrank_hard(teacher: Tensor, student: Tensor, length: int | None = None) -> Tensor:
    """How improbable the teacher's ranking of the batch is in the student's scores (ListMLE).

    Source: Chen, Wang, Zhang, DarkRank: accelerating deep metric learning via cross sample similarities transfer, AAAI
    2018.

    Args:
        teacher: scores [B, B], as `ranking_scores`; only their order counts.
        student: scores [B, B].
        length: how many of the best candidates are ranked; None for all.

    Returns:
        A scalar: the mean over queries.

    Example:
        >>> darkrank_hard(torch.tensor([[0.0, -1.0, -2.0]] * 3), torch.zeros(3, 3))  # two candidates, equally near: log 2
        tensor(0.6931)
    """
    return -ordered_likelihood(student.gather(1, top_candidates(teacher, length))).mean()


def darkrank_soft(teacher: Tensor, student: Tensor, length: int) -> Tensor:
    """Cross-entropy of the student's probabilities of all orders of the best candidates against the teacher's (ListNet).

    Source: Chen, Wang, Zhang, DarkRank: accelerating deep metric learning via cross sample similarities transfer, AAAI
    2018; a divergence plus the teacher's entropy, as in the authors' code.

    Args:
        teacher: scores [B, B], as `ranking_scores`.
        student: scores [B, B].
        length: how many candidates of each query the teacher puts first; their orders, its factorial, are compared.

    Returns:
        A scalar: the mean over queries.

    Example:
        >>> darkrank_soft(torch.zeros(3, 3), torch.zeros(3, 3), length=2)  # two orders, equally probable: log 2
        tensor(0.6931)
    """
    rows = top_candidates(teacher, length)
    orders = torch.tensor(list(itertools.permutations(range(rows.shape[1]))), device=rows.device, dtype=torch.long)
    wanted, given = (ordered_likelihood(scores.gather(1, rows)[:, orders]) for scores in (teacher.detach(), student))
    return -(wanted.exp() * given).sum(dim=1).mean()
