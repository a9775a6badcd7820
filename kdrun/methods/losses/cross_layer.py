"""Losses of several maps at once: scales of one, layers against layers, flows through a network.

All take the teacher's side first, which gets no gradient, and return a scalar.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.response import soft_cross_entropy

__all__ = ["flow_cross_entropy", "hcl", "semantic_calibration", "weighted_matching"]

SCALES = (4, 2, 1)  # sides to which HCL pools a map, beside its own


def hcl(teacher: Tensor, student: Tensor) -> Tensor:
    """Hierarchical context loss: the squared distance of two maps and of what pooling makes of them.

    Each coarser map (4x4, 2x2, 1x1, where that is smaller than the map) counts half of the one before; the weights sum to one.

    Source: Chen, Liu, Zhao, Jia, Distilling knowledge via knowledge review, CVPR 2021, section 3.3 and the authors' code.

    Args:
        teacher: maps [B, C, H, W].
        student: maps of the same shape.

    Example:
        >>> checkerboard = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
        >>> hcl(torch.zeros(1, 1, 2, 2), checkerboard)  # (1 + 0 / 2) / 1.5
        tensor(0.6667)
    """
    height, width = student.shape[-2:]
    difference = student - teacher.detach()
    apart, share, total = difference.square().mean(), 1.0, 1.0
    for side in SCALES:
        if side >= max(height, width):
            continue
        share /= 2
        pooled = F.adaptive_avg_pool2d(difference, (min(side, height), min(side, width)))
        apart, total = apart + share * pooled.square().mean(), total + share
    return apart / total


def semantic_calibration(apart: Tensor, shares: Tensor) -> Tensor:
    """Distances of each student's layer from all of the teacher's, weighed by how related they are; trains both.

    Source: Chen, Mei, Zhang, Wang, Wang, Feng, Chen, Cross-layer distillation with semantic calibration, AAAI 2021, equation
    7.

    Args:
        apart: distances [B, S, T] of S layers of the student from T of the teacher.
        shares: weights [B, S, T], of sum 1 over T.

    Returns:
        A scalar: the mean over samples and student's layers.

    Example:
        >>> semantic_calibration(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.75, 0.25]]]))
        tensor(1.5000)
    """
    return (shares * apart).sum(dim=2).mean()


def flow_cross_entropy(teacher: Sequence[Tensor], student: Sequence[Tensor], temperature: float, share: float) -> Tensor:
    """Cross-entropy of FSP matrices as distributions, over the entries that are largest in the teacher's.

    An approximation of Liu et al., Knowledge representing, CVPR Workshops 2019.

    Args:
        teacher: matrices [B, C1, C2], as `fsp_matrices` makes them.
        student: as many, of the same shapes.
        temperature: what entries are divided by before their softmax.
        share: of the entries that are kept, above 0; what is left out of both is no part of the softmaxes.

    Returns:
        A scalar: the mean over samples, summed over matrices.

    Example:
        >>> even = [torch.zeros(1, 2, 4)]
        >>> flow_cross_entropy(even, even, temperature=1.0, share=0.5)  # log 4
        tensor(1.3863)
    """
    terms = []
    for wanted, given in zip(teacher, student, strict=True):
        target, flat = wanted.detach().flatten(1), given.flatten(1)
        kept = target.topk(max(1, round(share * target.shape[1])), dim=1)
        terms.append(soft_cross_entropy(kept.values, flat.gather(1, kept.indices), temperature))
    return torch.stack(terms).sum()


def weighted_matching(teacher: Tensor, student: Tensor, channels: Tensor, pairs: Tensor) -> Tensor:
    """Squared distances of maps, weighed channel by channel and as a whole for each sample; trains the weights too.

    Source: Jang, Lee, Hwang, Shin, Learning what and where to transfer, ICML 2019, equations 2 and 3.

    Args:
        teacher: maps [B, C, H, W], resized to the student's height and width where those are others.
        student: maps [B, C, h, w], brought to the teacher's channels.
        channels: weights [B, C], of sum 1 over the channels.
        pairs: the weight [B] of this pair of layers for each sample.

    Returns:
        A scalar: the mean over samples.

    Example:
        >>> student = torch.tensor([1.0, 2.0])[None, :, None, None].expand(1, 2, 3, 3)
        >>> weighted_matching(torch.zeros(1, 2, 3, 3), student, torch.tensor([[0.5, 0.5]]), torch.ones(1))
        tensor(2.5000)
    """
    wanted = teacher.detach()
    if wanted.shape[-2:] != student.shape[-2:]:
        wanted = F.interpolate(wanted, student.shape[-2:], mode="bilinear")
    apart = (student - wanted).square().mean(dim=(2, 3))
    return ((channels * apart).sum(dim=1) * pairs).mean()
