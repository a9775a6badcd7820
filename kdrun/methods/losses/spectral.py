"""Losses of the spectra of matrices."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from kdrun.methods.losses.arithmetic import unit_rows

__all__ = ["likenesses", "log_euclid", "symmetric_log"]


class SymmetricLog(torch.autograd.Function):
    """The logarithm of a symmetric positive definite matrix.

    Its derivative (Daleckii and Krein) holds the divided differences of the logarithm at pairs of eigenvalues. At equal ones
    they tend to its slope, where the derivative of the eigenvectors, which autograd would take, is infinite.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, matrix: Tensor) -> Tensor:
        """From [N, N] to [N, N]."""
        values, vectors = torch.linalg.eigh(matrix)
        ctx.save_for_backward(values, vectors)
        return (vectors * values.log()) @ vectors.T

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> Tensor:
        """The slope of the matrix, from that of its logarithm."""
        values, vectors = ctx.saved_tensors  # type: ignore[attr-defined]
        low = torch.minimum(values[:, None], values[None, :])
        ratio = (values[:, None] - values[None, :]).abs() / low
        divided = torch.where(ratio > 0, torch.log1p(ratio) / ratio.clamp_min(torch.finfo(ratio.dtype).tiny), 1.0) / low
        inner = vectors.T @ ((slope + slope.T) / 2) @ vectors
        return vectors @ (divided * inner) @ vectors.T


def symmetric_log(matrix: Tensor) -> Tensor:
    """The logarithm of a symmetric positive definite matrix [N, N], with a finite gradient at equal eigenvalues too.

    Source: Arsigny, Fillard, Pennec, Ayache, Log-Euclidean metrics for fast and simple calculus on diffusion tensors, Magnetic
    Resonance in Medicine 2006.

    Example:
        >>> symmetric_log(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))  # eigenvalues 3 and 1: log(3) / 2 everywhere
        tensor([[0.5493, 0.5493],
                [0.5493, 0.5493]])
    """
    return SymmetricLog.apply(matrix)


def likenesses(embedding: Tensor, epsilon: float) -> Tensor:
    """How alike the rows of [B, D] are, above zero and of length one: [B, B] from 0 to 1, and `epsilon` on the diagonal.

    Source: Wu et al., Distilled person re-identification, CVPR 2019.

    Example:
        >>> likenesses(torch.tensor([[3.0, -1.0], [1.0, 1.0]]), epsilon=0.1)
        tensor([[1.1000, 0.7071],
                [0.7071, 1.1000]])
    """
    rows = unit_rows(embedding.relu())
    return rows @ rows.T + epsilon * torch.eye(len(rows), dtype=rows.dtype, device=rows.device)


def log_euclid(teacher: Tensor, student: Tensor, epsilon: float) -> Tensor:
    """Squared log-Euclidean distance of how alike two networks find the samples of a batch.

    Source: Wu, Zheng, Guo, Lai, Distilled person re-identification: towards a more scalable system, CVPR 2019. The ridge that
    makes the matrices positive definite is ours, and so is the mean, which does not grow with the batch.

    Args:
        teacher: embedding [B, D].
        student: embedding [B, D'].
        epsilon: added on the diagonals.

    Returns:
        A scalar: the mean over all pairs. It is found in float64.

    Example:
        >>> alike, apart = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
        >>> log_euclid(alike, apart, epsilon=1.0)  # eigenvalues 3 and 1 against 2 twice: log(3/2)^2 + log(2)^2, over 4
        tensor(0.1612)
    """
    wanted, given = (symmetric_log(likenesses(one.double(), epsilon)) for one in (teacher.detach(), student))
    return (given - wanted).square().mean().to(student.dtype)
