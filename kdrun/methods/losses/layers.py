"""Losses of how the layers, channels and patches of one network go together.

All take the teacher's side first, which gets no gradient, and return a scalar unless they say otherwise. Maps [B, C, H, W]
of teacher and student may differ in H and W; each function says whether channels may differ.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import same_size, unit_rows

__all__ = ["aligned_directions", "channel_correlations", "fsp", "fsp_matrices", "fsp_matrix", "ickd", "irg_transformation",
           "kdsvd", "leading_directions", "lkd", "patches", "transformations"]


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


def transformations(first: Tensor, last: Tensor) -> Tensor:
    """How far each sample moves from one map to a later one of the same network, over the farthest of the batch: [B].

    The larger map is averaged to the smaller one's height and width, and neighbouring channels are averaged where one map
    has more of them. The farthest counts as a constant.

    Source: Liu et al., Knowledge distillation via instance relationship graph, CVPR 2019.

    Args:
        first: [B, C, H, W].
        last: [B, C', H', W'].

    Example:
        >>> transformations(torch.zeros(2, 1, 1, 1), torch.tensor([1.0, 3.0, 0.0, 2.0]).reshape(2, 2, 1, 1))
        tensor([1.0000, 0.2500])
    """
    start, end = (maps.flatten(2).transpose(1, 2) for maps in same_size(first, last))
    channels = min(start.shape[2], end.shape[2])
    start, end = (one if one.shape[2] == channels else F.adaptive_avg_pool1d(one, channels) for one in (start, end))
    squares = (start - end).square().sum(dim=(1, 2))
    return squares / squares.detach().max().clamp_min(1e-12)


def irg_transformation(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor]) -> Tensor:
    """Squared difference of how samples move between two layers; channels may differ.

    Source: Liu et al., Knowledge distillation via instance relationship graph, CVPR 2019.

    Args:
        teacher: two maps [B, C, H, W] of it.
        student: likewise.

    Returns:
        A scalar: the mean over samples.

    Example:
        >>> still, one, two = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1), torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
        >>> irg_transformation((still, one), (still, two))  # 1 and 1 against 1/4 and 1
        tensor(0.2812)
    """
    wanted = transformations(*(maps.detach() for maps in teacher))
    return F.mse_loss(transformations(*student), wanted)


def channel_correlations(maps: Tensor) -> Tensor:
    """Inner products [B, C, C] of the channels of a map over its places, each row of length one (Liu et al. 2021).

    Example:
        >>> channel_correlations(torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]]))  # 9, 12 and 12, 16
        tensor([[[0.6000, 0.8000],
                 [0.6000, 0.8000]]])
    """
    channels = maps.flatten(2)
    return unit_rows(channels @ channels.transpose(1, 2))


def ickd(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared difference of how the channels of a map correlate; both have the same channels.

    Source: Liu et al., Exploring inter-channel correlation for diversity-preserved knowledge distillation, ICCV 2021.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C, H', W'].

    Returns:
        A scalar: the sum over a row of correlations, the mean over rows and samples, as in the authors' code.

    Example:
        >>> apart, alike = torch.eye(2).reshape(1, 2, 1, 2), torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])
        >>> ickd(apart, alike)  # 2 - sqrt(2)
        tensor(0.5858)
    """
    difference = channel_correlations(student) - channel_correlations(teacher.detach())
    return difference.square().sum(dim=2).mean()


def patches(maps: Tensor, grid: int) -> Tensor:
    """A map [B, C, H, W] cut into grid x grid patches, [B, P, D]: row by row, each flattened (Li et al. 2020).

    A map that is smaller is cut into its places; one whose sides the grid does not divide is averaged down first.

    Example:
        >>> patches(torch.arange(16.0).reshape(1, 1, 4, 4), grid=2)[0, 1]
        tensor([2., 3., 6., 7.])
    """
    batch, channels, *sides = maps.shape
    rows, columns = (min(grid, side) for side in sides)
    high, wide = sides[0] // rows, sides[1] // columns
    if sides != [rows * high, columns * wide]:
        maps = F.adaptive_avg_pool2d(maps, (rows * high, columns * wide))
    cut = maps.reshape(batch, channels, rows, high, columns, wide).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(batch, rows * columns, channels * high * wide)


def lkd(teacher: Tensor, student: Tensor, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Squared differences of how the patches of a batch are alike, by their cosines; channels may differ.

    Source: Li et al., Local correlation consistency for knowledge distillation, ECCV 2020.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C', H', W'].
        grid: see `patches`.

    Returns:
        Three scalars, each a mean over all pairs it is of: of patches of one sample, of the patches at one place of all
        samples, and of all patches of all samples.

    Example:
        >>> teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # one sample, two places of two channels
        >>> student = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])
        >>> lkd(teacher, student, grid=2)  # two of four cosines are 1 instead of 0
        (tensor(0.5000), tensor(0.), tensor(0.5000))
    """
    wanted, given = (unit_rows(patches(maps, grid)) for maps in same_size(teacher.detach(), student))

    def apart(first: Tensor, second: Tensor) -> Tensor:
        return F.mse_loss(second @ second.transpose(-1, -2), first @ first.transpose(-1, -2))

    return (apart(wanted, given), apart(wanted.transpose(0, 1), given.transpose(0, 1)),
            apart(wanted.flatten(0, 1), given.flatten(0, 1)))


def leading_directions(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest singular values [B, k] of each sample's map and their right singular vectors [B, C, k].

    A sample is the matrix of its places by its channels; the vectors say which mixtures of channels matter most. Each is
    turned so that its sum is not negative, and the gradient leaves out what equal singular values make infinite.

    Source: Lee, Kim, Song, Self-supervised knowledge distillation using singular value decomposition, ECCV 2018.

    Args:
        maps: [B, C, H, W].
        count: k, at most; fewer where there are fewer places or channels.

    Example:
        >>> values, vectors = leading_directions(torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]]), count=1)
        >>> values, vectors
        (tensor([[3.]]), tensor([[[1.],
                 [0.]]]))
    """
    matrix = maps.flatten(2).transpose(1, 2)
    places, channels = matrix.shape[1:]
    few = places < channels
    gram = matrix @ matrix.transpose(1, 2) if few else matrix.transpose(1, 2) @ matrix
    squares, basis = (one.flip(-1) for one in torch.linalg.eigh(gram.detach()))
    top, count = basis[:, :, :count], min(count, places, channels)
    # Eigenvectors to first order: the value is theirs, and so is the gradient.
    moved = basis.transpose(1, 2) @ (gram - gram.detach()) @ top
    gaps, least = squares[:, None, :count] - squares[:, :, None], 1e-6 * squares[:, :1, None]
    apart = gaps.abs() > least
    top = top + basis @ (moved * torch.where(apart, 1 / torch.where(apart, gaps, 1), 0))
    squares = squares[:, :count]
    if few:  # from vectors over places to those over channels
        there = squares > least[:, :, 0]
        top = F.normalize(torch.where(there[:, None], matrix.transpose(1, 2) @ top, 0), dim=1)
    sign = torch.where(top.detach().sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    return squares.clamp_min(0).sqrt(), sign.to(top.dtype) * top


def aligned_directions(teacher: Tensor, student: Tensor, count: int, more: int = 3) -> tuple[Tensor, Tensor]:
    """The teacher's leading directions and the student's that go with them, both [B, C, k].

    Of the student's k + `more` leading directions that with the largest cosine, turned where it is negative; both times the
    teacher's singular values, brought to length one.

    Source: Lee, Kim, Song, Self-supervised knowledge distillation using singular value decomposition, ECCV 2018.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C, H', W'].
        count: k.
        more: as above; the authors' code has 3.

    Example:
        >>> maps = torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]])
        >>> wanted, given = aligned_directions(maps, maps.flip(1) * 2, count=1)  # the student's second is the teacher's first
        >>> torch.equal(wanted, given)
        True
    """
    values, wanted = leading_directions(teacher.detach(), count)
    given = leading_directions(student, count + more)[1]
    cosines = given.transpose(1, 2) @ wanted
    best = cosines.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(cosines.detach().gather(1, best) < 0, -1.0, 1.0)
    given = sign.to(given.dtype) * given.gather(2, best.expand(-1, given.shape[1], -1))
    weights = unit_rows(values)[:, None]
    return wanted * weights, given * weights


def kdsvd(teacher: Sequence[Tensor], student: Sequence[Tensor], count: int = 1) -> Tensor:
    """Squared difference of how the leading directions of consecutive maps go together.

    A Gaussian of the difference of each entry of one map's direction with each entry of the next one's.

    Source: Lee, Kim, Song, Self-supervised knowledge distillation using singular value decomposition, ECCV 2018.

    Args:
        teacher: maps [B, C, H, W], at least two.
        student: as many, of the same channels.
        count: how many directions of a map.

    Returns:
        A scalar: the sum over entries and pairs of maps, the mean over samples.

    Example:
        >>> first = torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]])  # its first direction is (1, 0)
        >>> kdsvd([first, first], [first, torch.ones(1, 2, 1, 2)])  # (1, 1) over sqrt(2) instead of (1, 0) in the second
        tensor(0.0184)
    """
    directions = [aligned_directions(*pair, count) for pair in zip(teacher, student, strict=True)]

    def flow(first: Tensor, last: Tensor) -> Tensor:
        few = min(first.shape[2], last.shape[2])
        return torch.exp(-(last[:, :, None, :few] - first[:, None, :, :few]).square() / 8)

    apart = [(flow(own[1], next_[1]) - flow(own[0], next_[0])).square().sum() / len(student[0])
             for own, next_ in itertools.pairwise(directions)]
    return torch.stack(apart).sum()
