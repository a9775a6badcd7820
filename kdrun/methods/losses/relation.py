"""Losses of how the samples of a batch go together: distances, angles, similarities, affinities.

All take the teacher's side first, which gets no gradient, and return a scalar. Embeddings [B, D] and maps [B, C, H, W]
of teacher and student may differ in D, C, H and W unless a function says otherwise.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import distances, unit_rows

__all__ = ["Affinity", "Kernel", "affinities", "angles", "cckd", "correlations", "hkd_flow", "irg_edges", "lp",
           "mlkd_absolute", "mlkd_relative", "pkt", "relative_distances", "relative_squares", "rkd_angle", "rkd_distance",
           "similarities", "sp"]

Affinity = Literal["cosine", "student_t"]
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


def affinities(embedding: Tensor, kernel: Affinity = "cosine") -> Tensor:
    """How probably each row of [B, D] picks each other row: [B, B] (Passalis and Tefas 2018, equation 6).

    Args:
        embedding: [B, D].
        kernel: `cosine` by shifted cosine; `student_t` by the inverse of 1 + the distance (Passalis et al. 2020).

    Example:
        >>> affinities(torch.eye(2))  # of cosines 1 and 0
        tensor([[0.6667, 0.3333],
                [0.3333, 0.6667]])
        >>> affinities(torch.tensor([[0.0], [1.0]]), "student_t")  # of distances 0 and 1
        tensor([[0.6664, 0.3336],
                [0.3336, 0.6664]])
    """
    if kernel == "student_t":
        near = 1 / (1 + (distances(embedding).square() + 1e-6).sqrt())  # as the authors' code rounds off the tip
    else:
        unit = unit_rows(embedding)
        near = (unit @ unit.T + 1) / 2
    return near / near.sum(dim=1, keepdim=True)


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


def hkd_flow(teacher: Tensor, student: Tensor) -> Tensor:
    """Jeffreys divergence of the affinities among the samples of a batch, by two kernels.

    Source: Passalis, Tzelepi, Tefas, Heterogeneous knowledge distillation using information flow modeling, CVPR 2020;
    as in the authors' code.

    Args:
        teacher: embedding [B, D], or a map that was flattened.
        student: embedding [B, D'].

    Returns:
        A scalar: the mean over all pairs, the sum over both kernels.

    Example:
        >>> hkd_flow(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))  # 0.0578 by cosines, 0.0911 by distances
        tensor(0.1488)
    """
    total = torch.zeros_like(student[0, 0])
    kernels: tuple[Affinity, ...] = ("cosine", "student_t")
    for kernel in kernels:
        wanted, given = (affinities(one, kernel) + EPSILON for one in (teacher.detach(), student))  # opposite rows have 0
        total = total + ((wanted - given) * (wanted.log() - given.log())).mean()
    return total


def relative_squares(vectors: Tensor) -> Tensor:
    """Squared distances [B, B] among the rows of [B, D] over the largest, which counts as a constant (Liu et al. 2019).

    Example:
        >>> relative_squares(torch.tensor([[0.0], [1.0], [2.0]]))
        tensor([[0.0000, 0.2500, 1.0000],
                [0.2500, 0.0000, 0.2500],
                [1.0000, 0.2500, 0.0000]])
    """
    squares = distances(vectors).square()
    return squares / squares.detach().max().clamp_min(1e-12)


def irg_edges(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared difference of the edges of two instance relationship graphs.

    Source: Liu et al., Knowledge distillation via instance relationship graph, CVPR 2019.

    Args:
        teacher: embedding [B, D] or maps [B, C, H, W].
        student: likewise, of any other size.

    Returns:
        A scalar: the mean over all pairs, those of a sample with itself included.

    Example:
        >>> irg_edges(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]]))
        tensor(0.0127)
    """
    return F.mse_loss(relative_squares(student.flatten(1)), relative_squares(teacher.detach().flatten(1)))


def lp(teacher: Tensor, student: Tensor, neighbours: int, width: float | None = None) -> Tensor:
    """How far apart a student holds samples that are neighbours in the teacher's embedding.

    Source: Chen et al., Learning student networks via feature embedding, IEEE Transactions on Neural Networks and Learning
    Systems, 2020. It is smallest where the student tells no sample from another, so it goes with a loss of labels.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].
        neighbours: how many nearest samples of the batch count as a sample's neighbours; all others where there are fewer.
        width: a neighbour weighs exp(-squared distance / width); None for their mean squared distance in the batch.

    Returns:
        A scalar: the sum over a sample's neighbours, the mean over samples.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [5.0]])
        >>> lp(line, torch.tensor([[0.0], [2.0], [4.0]]), neighbours=1, width=2.0)
        tensor(1.6179)
    """
    count, own = len(teacher), torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    apart = distances(teacher.detach()).square().masked_fill(own, math.inf)
    squares, rows = apart.topk(min(neighbours, count - 1), dim=1, largest=False)
    weights = torch.exp(-squares / (squares.mean().clamp_min(1e-12) if width is None else width))
    return (weights * distances(student).square().gather(1, rows)).sum() / count


def mlkd_relative(teacher: Tensor, student: Tensor, reduction: Literal["fro", "mse"] = "fro") -> Tensor:
    """How much the distances among the samples of a batch differ.

    Source: Yu et al., Learning metrics from teachers: compact networks for image embedding, CVPR 2019.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].
        reduction: `fro` is the Frobenius norm, which grows with the batch; `mse` the mean square.

    Example:
        >>> right = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> mlkd_relative(right, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75 ** 0.5]]))  # sqrt(2) (sqrt(2) - 1)
        tensor(0.5858)
    """
    difference = distances(student) - distances(teacher.detach())
    if reduction == "mse":
        return difference.square().mean()
    return difference.square().sum().clamp_min(1e-12).sqrt()  # clamped first: a root at zero has no gradient


def mlkd_absolute(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean Euclidean distance of the embeddings of the same sample.

    Source: Yu et al., Learning metrics from teachers: compact networks for image embedding, CVPR 2019.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D].

    Example:
        >>> mlkd_absolute(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
        tensor(5.)
    """
    return (student - teacher.detach()).square().sum(dim=1).clamp_min(1e-12).sqrt().mean()
