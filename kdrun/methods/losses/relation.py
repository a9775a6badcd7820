"""Losses of how samples, or layers, go together: what a student keeps of the relations that its teacher sees.

All take the teacher's side first, which gets no gradient, and return a scalar. Embeddings [B, D] and maps [B, C, H, W]
of teacher and student may differ in D, C, H and W unless a function says otherwise.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import distances, unit_rows

__all__ = ["Kernel", "affinities", "angles", "cckd", "correlations", "crd", "fsp", "fsp_matrices", "fsp_matrix", "pkt",
           "relative_distances", "rkd_angle", "rkd_distance", "similarities", "sp", "triplet_order"]

Kernel = Literal["gaussian", "bilinear"]
EPSILON = 1e-7


def relative_distances(embedding: Tensor) -> Tensor:
    """Distances [B, B] between the rows of [B, D], over the mean of those above zero (Park et al. 2019, equation 6).

    Example:
        >>> relative_distances(torch.tensor([[0.0], [1.0], [2.0]]))  # the mean of 1, 1 and 2 is 4/3
        tensor([[0.0000, 0.7500, 1.5000],
                [0.7500, 0.0000, 0.7500],
                [1.5000, 0.7500, 0.0000]])
    """
    apart = distances(embedding)
    positive = apart > 1e-6  # the root of the smallest square that `distances` lets through
    mean = apart.sum() / positive.sum().clamp_min(1)
    return apart / mean.clamp_min(1e-12)


def angles(embedding: Tensor) -> Tensor:
    """Cosines [B, B, B] of the angle at the first of three rows of [B, D] (Park et al. 2019, equation 9).

    Example:
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> angles(corner)[0, 1, 2], angles(corner)[1, 0, 2]  # 90 and 45 degrees
        (tensor(0.), tensor(0.7071))
    """
    edges = unit_rows(embedding[None, :, :] - embedding[:, None, :])
    return edges @ edges.transpose(1, 2)


def rkd_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Huber distance of the relative distances among the samples of a batch.

    Source: Park et al., Relational knowledge distillation, CVPR 2019, equation 8.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].

    Returns:
        A scalar: the mean over all pairs, those of a sample with itself included.

    Example:
        >>> line, bent = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]])
        >>> rkd_distance(line, 5 * line), rkd_distance(line, bent)  # 0 at any scale; 1/72
        (tensor(0.), tensor(0.0139))
    """
    return F.smooth_l1_loss(relative_distances(student), relative_distances(teacher.detach()))


def rkd_angle(teacher: Tensor, student: Tensor) -> Tensor:
    """Huber distance of the cosines of all angles among the samples of a batch.

    Source: Park et al., Relational knowledge distillation, CVPR 2019, equation 10.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].

    Returns:
        A scalar: the mean over all triples, those that hold a sample twice included.

    Example:
        >>> right = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> rkd_angle(right, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75 ** 0.5]]))
        tensor(0.0124)
    """
    return F.smooth_l1_loss(angles(student), angles(teacher.detach()))


def similarities(maps: Tensor) -> Tensor:
    """Inner products [B, B] of the samples of a map [B, ...], each row of length one (Tung and Mori 2019, equation 2).

    Example:
        >>> similarities(torch.tensor([[3.0, 0.0], [4.0, 0.0]]))  # 9, 12 and 12, 16
        tensor([[0.6000, 0.8000],
                [0.6000, 0.8000]])
    """
    rows = maps.flatten(1)
    return unit_rows(rows @ rows.T)


def sp(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared difference of which samples of a batch are alike.

    Source: Tung, Mori, Similarity-preserving knowledge distillation, ICCV 2019, equation 4.

    Args:
        teacher: maps [B, ...] of any shape.
        student: maps [B, ...] of any other.

    Returns:
        A scalar: the mean over all pairs.

    Example:
        >>> alike, apart = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
        >>> sp(alike, apart)  # 1 - 1/sqrt(2)
        tensor(0.2929)
    """
    return (similarities(student) - similarities(teacher.detach())).square().mean()


def affinities(embedding: Tensor) -> Tensor:
    """How probably each row of [B, D] picks each other row: [B, B] by shifted cosine (Passalis and Tefas 2018, eq. 6).

    Example:
        >>> affinities(torch.eye(2))  # of cosines 1 and 0
        tensor([[0.6667, 0.3333],
                [0.3333, 0.6667]])
    """
    unit = unit_rows(embedding)
    cosine = (unit @ unit.T + 1) / 2
    return cosine / cosine.sum(dim=1, keepdim=True)


def pkt(teacher: Tensor, student: Tensor) -> Tensor:
    """Divergence of the probabilities with which the samples of a batch pick each other as neighbours.

    Source: Passalis, Tefas, Learning deep representations with probabilistic knowledge transfer, ECCV 2018. As in the
    authors' code a sample may pick itself, and the sum of equation 9 is divided by the squared batch size.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].

    Example:
        >>> pkt(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2))
        tensor(0.0294)
    """
    wanted, given = affinities(teacher.detach()), affinities(student)
    return (wanted * torch.log((wanted + EPSILON) / (given + EPSILON))).mean()


def correlations(embedding: Tensor, kernel: Kernel, gamma: float, order: int) -> Tensor:
    """Correlations [B, B] of the rows of [B, D], each brought to length one (Peng et al. 2019, section 3.3).

    Args:
        embedding: [B, D].
        kernel: `gaussian` by its Taylor series, or `bilinear`, the inner product.
        gamma: of the Gaussian exp(-gamma * squared distance).
        order: the highest power of its series.

    Example:
        >>> correlations(torch.eye(2), "gaussian", gamma=0.4, order=40)  # exp(-0.4 * 2) off the diagonal
        tensor([[1.0000, 0.4493],
                [0.4493, 1.0000]])
    """
    unit = unit_rows(embedding)
    products = unit @ unit.T
    if kernel == "bilinear":
        return products
    total = term = torch.ones_like(products)
    for power in range(1, order + 1):
        term = term * (2 * gamma / power) * products
        total = total + term
    return math.exp(-2 * gamma) * total


def cckd(teacher: Tensor, student: Tensor, kernel: Kernel, gamma: float, order: int) -> Tensor:
    """Squared difference of how the samples of a batch correlate.

    Source: Peng et al., Correlation congruence for knowledge distillation, ICCV 2019, equation 6.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].
        kernel: `gaussian` by its Taylor series, or `bilinear`, the inner product.
        gamma: of the Gaussian exp(-gamma * squared distance).
        order: the highest power of its series.

    Returns:
        A scalar: the mean over all pairs.

    Example:
        >>> alike, apart = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
        >>> cckd(alike, apart, kernel="gaussian", gamma=0.4, order=2)
        tensor(0.1266)
    """
    wanted, given = (correlations(one, kernel, gamma, order) for one in (teacher.detach(), student))
    return (given - wanted).square().mean()


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


def fsp_matrix(first: Tensor, last: Tensor, pool: Literal["max", "average"] = "max") -> Tensor:
    """Inner products of the channels of two maps of one network, over their places (Yim et al. 2017, equation 1).

    Args:
        first: the map [B, C1, H, W] where a group of layers starts.
        last: the map [B, C2, H, W] where it ends; of two sizes the larger is pooled to the smaller.
        pool: how.

    Returns:
        [B, C1, C2].

    Example:
        >>> fsp_matrix(torch.ones(1, 2, 4, 4), torch.full((1, 3, 2, 2), 2.0))
        tensor([[[2., 2., 2.],
                 [2., 2., 2.]]])
    """
    size = (min(first.shape[-2], last.shape[-2]), min(first.shape[-1], last.shape[-1]))
    smaller = F.adaptive_max_pool2d if pool == "max" else F.adaptive_avg_pool2d
    start, end = ((maps if maps.shape[-2:] == size else smaller(maps, size)).flatten(2) for maps in (first, last))
    return start @ end.transpose(1, 2) / (size[0] * size[1])


def fsp_matrices(maps: Sequence[Tensor], pool: Literal["max", "average"] = "max") -> list[Tensor]:
    """The matrices of each map [B, C, H, W] of a network with the next (Yim et al. 2017, equation 1).

    Example:
        >>> [matrix.shape for matrix in fsp_matrices([torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)])]
        [torch.Size([1, 2, 3])]
    """
    return [fsp_matrix(*pair, pool) for pair in itertools.pairwise(maps)]


def fsp(teacher: Sequence[Tensor], student: Sequence[Tensor], reduction: Literal["mean", "sum"] = "sum") -> Tensor:
    """Squared distance of two networks' FSP matrices, summed over them.

    Source: Yim et al., A gift from knowledge distillation, CVPR 2017, equation 2.

    Args:
        teacher: matrices [B, C1, C2].
        student: as many, of the same shapes.
        reduction: of the squares of a matrix: `sum`, the paper's, or `mean`; both average over samples.

    Example:
        >>> maps = [torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]
        >>> fsp(fsp_matrices(maps), fsp_matrices([2 * one for one in maps]))  # 6 entries, each (4 - 1) squared
        tensor(54.)
    """
    apart = [(given - wanted.detach()).square() for wanted, given in zip(teacher, student, strict=True)]
    return sum((pair.mean() if reduction == "mean" else pair.sum() / len(pair) for pair in apart),
               start=torch.zeros_like(apart[0][0, 0, 0]))


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
