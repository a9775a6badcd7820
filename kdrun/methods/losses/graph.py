"""Losses of graphs: what a student keeps of the edges between networks, or between the samples of a batch.

All take the teacher's side first, which gets no gradient, and return a scalar unless they say otherwise. Embeddings [B, D]
of teacher and student may differ in D.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import unit_rows

__all__ = ["EdgeKernel", "NodeKernel", "earth_mover", "edge_discrepancy", "edges", "local_structure", "local_structures",
           "median_square", "nearest", "squared_mmd"]

EdgeKernel = Literal["gaussian", "linear"]
NodeKernel = Literal["rbf", "laplacian", "squared", "linear"]


def earth_mover(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Earth mover's distance of two answers whose classes are all equally far apart: half the sum of absolute differences.

    Source: the distance of Zhang and Peng, Better and faster: knowledge transfer from multiple self-supervised learning tasks
    via graph distillation for video classification, IJCAI 2018; that all classes are one unit apart is ours.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        temperature: what both are divided by.

    Returns:
        The mean over samples.

    Example:
        >>> earth_mover(torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.5, 0.3, 0.2]]).log())
        tensor(0.2000)
    """
    wanted, given = F.softmax(teacher.detach() / temperature, dim=1), F.softmax(student / temperature, dim=1)
    return (given - wanted).abs().sum(dim=1).mean() / 2


def squared_mmd(first: Tensor, second: Tensor, variances: Sequence[float] | Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of points, by a sum of Gaussian kernels: biased, never negative.

    Source: Gretton, Borgwardt, Rasch, Schölkopf, Smola, A kernel two-sample test, JMLR 2012, equation 5.

    Both sides get a gradient.

    Args:
        first: points [..., N, D].
        second: points [..., M, D].
        variances: of the kernels exp(-squared distance / (2 variance)).

    Returns:
        [...], one for each pair of sets.

    Example:
        >>> squared_mmd(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), [1.0, 4.0])  # 2 (2 - exp(-1) - exp(-1/4))
        tensor(1.7066)
    """
    def mean(one: Tensor, other: Tensor) -> Tensor:
        squared = (one[..., :, None, :] - other[..., None, :, :]).square().sum(dim=-1)
        return torch.stack([torch.exp(-squared / (2 * variance)) for variance in variances]).sum(dim=0).mean(dim=(-2, -1))

    return (mean(first, first) + mean(second, second) - 2 * mean(first, second)).clamp_min(0)


def median_square(first: Tensor, second: Tensor) -> Tensor:
    """The median squared distance between two sets of points [N, D] and [M, D], a constant above zero.

    Example:
        >>> median_square(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0]]))  # of 4 and 1, the lower
        tensor(1.)
    """
    return (first.detach()[:, None] - second.detach()[None]).square().sum(dim=-1).median().clamp_min(1e-12)


def edges(embedding: Tensor) -> Tensor:
    """The cosines [B, B - 1] of each row of [B, D] with all others, in their order.

    Example:
        >>> edges(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
        tensor([[0., 1.],
                [0., 0.],
                [1., 0.]])
    """
    unit, count = unit_rows(embedding), len(embedding)
    others = ~torch.eye(count, dtype=torch.bool, device=embedding.device)
    return (unit @ unit.T)[others].view(count, count - 1)


def edge_discrepancy(teacher: Tensor, student: Tensor, kernel: EdgeKernel = "gaussian") -> Tensor:
    """How differently each sample's cosines with the others are spread, whichever others they are with.

    Source: the distance of edges of Zhang and Peng, Better and faster: knowledge transfer from multiple self-supervised
    learning tasks via graph distillation for video classification, IJCAI 2018, between samples.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].
        kernel: `gaussian`, as wide as the mean squared gap between the two sets of a sample, or `linear`, which compares
            their means.

    Returns:
        The squared maximum mean discrepancy, averaged over samples.

    Example:
        >>> star = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> edge_discrepancy(star, star[[1, 2, 0]], "linear")  # means 0, 1/2, 1/2 and 1/2, 1/2, 0
        tensor(0.1667)
    """
    wanted, given = edges(teacher.detach()), edges(student)
    if kernel == "linear":
        return (given.mean(dim=1) - wanted.mean(dim=1)).square().mean()
    gaps = (given.detach()[:, :, None] - wanted[:, None, :]).square().mean(dim=(1, 2))
    variance = gaps.clamp_min(1e-12)[:, None, None]  # of a sample whose cosines are the same in both nothing is left
    return squared_mmd(wanted[..., None], given[..., None], variance[None]).mean()


def nearest(embedding: Tensor, count: int) -> Tensor:
    """The rows [B, count] that are nearest to each row of [B, D], itself left out.

    Example:
        >>> nearest(torch.tensor([[0.0], [1.0], [3.0]]), 1)
        tensor([[1],
                [0],
                [1]])
    """
    apart = torch.cdist(embedding.detach(), embedding.detach())
    return apart.fill_diagonal_(torch.inf).topk(count, largest=False).indices


def local_structures(embedding: Tensor, neighbours: Tensor, kernel: NodeKernel) -> Tensor:
    """How alike each row is to its neighbours: log-probabilities [B, N] over these.

    Args:
        embedding: [B, D].
        neighbours: rows [B, N] of it.
        kernel: of two rows. `rbf` is exp(-squared distance / (2 s)), where s is the mean squared distance of neighbours;
            `laplacian`, the authors' code, is exp(-sum of absolute differences / 100); `squared` is the squared distance, and
            `linear` the inner product.

    Example:
        >>> node = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> local_structures(node, torch.tensor([[1, 2]] * 3), "squared")[0].exp()  # of 1 and 4
        tensor([0.0474, 0.9526])
    """
    own, others = embedding[:len(neighbours), None], embedding[neighbours]
    if kernel == "linear":
        alike = (own * others).sum(dim=2)
    elif kernel == "laplacian":
        alike = torch.exp(-(own - others).abs().sum(dim=2) / 100)
    else:
        alike = (own - others).square().sum(dim=2)
        if kernel == "rbf":
            alike = torch.exp(-alike / (2 * alike.detach().mean().clamp_min(1e-12)))
    return F.log_softmax(alike, dim=1)


def local_structure(teacher: Tensor, student: Tensor, neighbours: Tensor, kernel: NodeKernel = "rbf") -> Tensor:
    """Divergence of the student's local structures from the teacher's.

    Source: Yang, Qiu, Song, Tao, Wang, Distilling knowledge from graph convolutional networks, CVPR 2020; the direction of the
    divergence is that of the authors' code.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].
        neighbours: rows [B, N] of both.
        kernel: see `local_structures`.

    Returns:
        The mean over samples.

    Example:
        >>> node = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> local_structure(node, node[[0, 2, 1]], torch.tensor([[1, 2]] * 3)[:1], "squared")
        tensor(2.7154)
    """
    wanted, given = (local_structures(one, neighbours, kernel) for one in (teacher.detach(), student))
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True)
