"""Losses of the places of a map: where it looks, which places are alike, how regions differ.

All take maps [B, C, H, W], the teacher's first, which get no gradient, and return a scalar. Channels may differ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import same_size

__all__ = ["heatmap_divergence", "moments", "place_affinities", "place_affinity", "region_affinities", "region_affinity",
           "self_attention", "self_attention_map"]


def heatmap_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """How far a student's confidence is from a teacher's, summed over the cells of all heatmaps and averaged over samples.

    The binary cross-entropy of each cell less the teacher's entropy, which the student cannot change: 0 where both agree.

    Source: Zhao et al., Through-wall human pose estimation using radio signals, CVPR 2018.

    Args:
        teacher: heatmaps [B, J, H, W] whose values are confidences; what is outside of 0 to 1 counts as these.
        student: logits of the same shape.

    Example:
        >>> teacher, student = torch.tensor([[[[0.8]]]]), torch.logit(torch.tensor([[[[0.6]]]]))
        >>> heatmap_divergence(teacher, student)  # 0.5919 less the entropy, 0.5004
        tensor(0.0915)
    """
    sure = teacher.detach().clamp(0, 1)
    entropy = -(torch.xlogy(sure, sure) + torch.xlogy(1 - sure, 1 - sure))
    return (F.binary_cross_entropy_with_logits(student, sure, reduction="none") - entropy).flatten(1).sum(dim=1).mean()


def self_attention_map(maps: Tensor) -> Tensor:
    """Where a map [B, C, H, W] is active, as shares [B, H*W] of sum 1 (Hou et al. 2019, section 3.1).

    Example:
        >>> self_attention_map(torch.tensor([[[[2.0, 1.0]]]]))  # the softmax of 4 and 1
        tensor([[0.9526, 0.0474]])
    """
    return F.softmax(maps.square().mean(dim=1).flatten(1), dim=1)


def self_attention(deeper: Tensor, shallower: Tensor) -> Tensor:
    """How differently a map and a deeper one of the same network spread their attention.

    Source: Hou, Ma, Liu, Loy, Learning lightweight lane detection CNNs by self attention distillation, ICCV 2019, equation 2,
    with the mean over places of a later implementation in place of their sum.

    Args:
        deeper: maps [B, C, H, W], which are brought to the other's size bilinearly, and are a constant.
        shallower: maps [B, C', H', W'], which learn.

    Example:
        >>> left, right = torch.tensor([[[[2.0, 1.0]]]]), torch.tensor([[[[1.0, 2.0]]]])
        >>> self_attention(left, right)  # the square of 0.9526 - 0.0474
        tensor(0.8193)
    """
    deeper = deeper.detach()
    if deeper.shape[-2:] != shallower.shape[-2:]:
        deeper = F.interpolate(deeper, size=shallower.shape[-2:], mode="bilinear", align_corners=False)
    return (self_attention_map(shallower) - self_attention_map(deeper)).square().mean()


def place_affinities(maps: Tensor) -> Tensor:
    """The cosines [B, H*W, H*W] of the channels at every two places of a map [B, C, H, W] (He et al. 2019, section 3.3).

    Example:
        >>> place_affinities(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]))
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    places = F.normalize(maps.flatten(2), dim=1)
    return places.transpose(1, 2) @ places


def place_affinity(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of the cosines of all places with one another.

    Source: He et al., Knowledge adaptation for efficient semantic segmentation, CVPR 2019, section 3.3.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C', H', W'].

    Example:
        >>> apart, alike = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]), torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])
        >>> place_affinity(apart, alike)
        tensor(0.5000)
    """
    teacher, student = same_size(teacher.detach(), student)
    return F.mse_loss(place_affinities(student), place_affinities(teacher))


def moments(maps: Tensor, regions: Tensor) -> Tensor:
    """Mean, variance and skewness of each channel over each region: moment pooling (Hou et al. 2020, section 3.2).

    Args:
        maps: [B, C, H, W].
        regions: [B, N, H, W], 1 where a place belongs to a region and 0 elsewhere; they may overlap, or be empty.

    Returns:
        [3, B, N, C].

    Example:
        >>> maps, regions = torch.tensor([[[[0.0, 0.0, 3.0]]]]), torch.ones(1, 1, 1, 3)
        >>> moments(maps, regions).flatten()  # 1, 2, and 2 over the third power of the root of 2
        tensor([1.0000, 2.0000, 0.7071])
    """
    values, weights = maps.flatten(2), regions.flatten(2)
    weights = weights / weights.sum(dim=2, keepdim=True).clamp_min(1)
    mean = torch.einsum("bnp,bcp->bnc", weights, values)
    apart = values[:, None] - mean[..., None]  # [B, N, C, H*W]
    variance = torch.einsum("bnp,bncp->bnc", weights, apart.square())
    third = torch.einsum("bnp,bncp->bnc", weights, apart.pow(3))
    # a power of 3/2 has no second derivative at 0, but its first is finite there; so is that of the whole
    return torch.stack([mean, variance, third / (variance.clamp_min(1e-12).pow(1.5) + 1e-6)])


def region_affinities(maps: Tensor, regions: Tensor) -> Tensor:
    """Cosines [3, B, N, N] of the regions of a map, by their means, variances and skewnesses (Hou et al. 2020, equation 2).

    Args:
        maps: [B, C, H, W].
        regions: [B, N, H, W], see `moments`.

    Example:
        >>> maps, regions = torch.tensor([[[[1.0, 2.0, 4.0, 0.0]]]]), torch.tensor([[[[1.0, 1, 0, 0]], [[0, 0, 1.0, 1]]]])
        >>> region_affinities(maps, regions)[:2, 0, 0, 1]  # of one channel all positive vectors are alike
        tensor([1., 1.])
    """
    vectors = F.normalize(moments(maps, regions), dim=3)
    return vectors @ vectors.transpose(2, 3)


def region_affinity(teacher: Tensor, student: Tensor, regions: Tensor, least: int = 2) -> Tensor:
    """Mean squared difference of the cosines of all pairs of regions that both have places enough.

    Source: Hou, Ma, Liu, Hui, Loy, Inter-region affinity distillation for road marking segmentation, CVPR 2020, equation 3.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C', H', W'].
        regions: [B, N, H'', W''], at least 0, not smaller than the maps; a place of a map belongs to a region that is
            above 0 anywhere in it.
        least: how many places a region must have in a sample to count.

    Returns:
        A scalar; 0 where no sample has two regions that count.

    Example:
        >>> halves = torch.tensor([[[[1.0, 1, 0, 0]], [[0, 0, 1.0, 1]]]])
        >>> apart = torch.tensor([[[[1.0, 1, 0, 0]], [[0, 0, 1.0, 1]]]])
        >>> region_affinity(apart, torch.ones(1, 2, 1, 4), halves)  # cosines of means 0 and 1; no variance in either
        tensor(0.3333)
    """
    teacher, student = same_size(teacher.detach(), student)
    size = student.shape[-2], student.shape[-1]
    covered = regions if regions.shape[-2:] == size else F.adaptive_avg_pool2d(regions, size)
    inside = (covered > 1e-6).to(student.dtype)
    counts = inside.flatten(2).sum(dim=2) >= least
    pairs = (counts[:, :, None] & counts[:, None, :]) & ~torch.eye(counts.shape[1], dtype=torch.bool, device=counts.device)
    difference = region_affinities(student, inside) - region_affinities(teacher, inside)
    return (difference.square() * pairs).sum() / (3 * pairs.sum()).clamp_min(1)
