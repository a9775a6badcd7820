"""Losses and scores by which students are searched for.

What teaches comes first and gets no gradient; logits are [B, K], maps [B, C, H, W].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["block_distance", "dissimilarities", "oracle_kd", "teacher_guidance"]


def oracle_kd(teachers: Sequence[Tensor], student: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Match, of each sample, the mean softened answer of those teachers that classify it right; of a sample that none does,
    nothing.

    It holds the squared temperature, and is averaged over all samples.

    Source: Kang, Mun, Han, Towards oracle knowledge distillation with neural architecture search, AAAI 2020.

    Args:
        teachers: logits [B, K] of each.
        student: logits [B, K].
        labels: [B].
        temperature: softens all answers.

    Example:
        >>> right, wrong = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> student, label = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
        >>> oracle_kd([right, wrong], student, label, 2.0)  # that of the first alone
        tensor(0.4438)
        >>> oracle_kd([wrong, wrong], student, label, 2.0)
        tensor(0.)
    """
    answers = torch.stack([one.detach() for one in teachers])
    right = (answers.argmax(dim=2) == labels).to(student.dtype)  # [M, B]
    count = right.sum(dim=0)
    # where nobody is right the mean of all stands in, and counts 0
    shares = torch.where(count > 0, right / count.clamp_min(1), torch.full_like(right, 1 / len(teachers)))
    wanted = (shares[..., None] * (answers / temperature).softmax(dim=2)).sum(dim=0)
    given = F.log_softmax(student / temperature, dim=1)
    each = (torch.xlogy(wanted, wanted) - wanted * given).sum(dim=1)
    return temperature**2 * ((count > 0) * each).sum() / max(1, len(student))


def dissimilarities(maps: Tensor) -> Tensor:
    """One minus Pearson's correlation of the activations of each pair of samples: [B, ...] to [B, B].

    Source: Bashivan, Tensen, DiCarlo, Teacher guided architecture search, ICCV 2019.

    Example:
        >>> dissimilarities(torch.tensor([[0.0, 1.0, 2.0], [1.0, 3.0, 5.0], [2.0, 1.0, 0.0]]))[0].round(decimals=4)
        tensor([0., 0., 2.])
    """
    rows = maps.detach().flatten(1).double()
    rows = F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)
    return (1 - rows @ rows.T).clamp_min(0).to(maps.dtype)


def teacher_guidance(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """How well a student tells samples apart as its teacher does, from -1 to 1.

    For each of the teacher's maps: the highest correlation, over the student's maps, of the upper triangles of their matrices
    of dissimilarities; the mean of these.

    Source: Bashivan, Tensen, DiCarlo, Teacher guided architecture search, ICCV 2019.

    Args:
        teacher: maps [B, ...] of its stages, for the same samples.
        student: likewise; at least three samples.

    Example:
        >>> maps = torch.tensor([[0.0, 1.0, 2.0], [1.0, 3.0, 5.0], [2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
        >>> teacher_guidance([maps], [torch.zeros(4, 2), 2 * maps + 1]).round(decimals=4)  # blind to scale and offset
        tensor(1.)
    """
    def triangles(maps: Sequence[Tensor]) -> Tensor:
        count = len(maps[0])
        above = torch.triu_indices(count, count, offset=1, device=maps[0].device)
        rows = torch.stack([dissimilarities(one)[above[0], above[1]] for one in maps]).double()
        return F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1)

    return (triangles(teacher) @ triangles(student).T).amax(dim=1).mean().to(teacher[0].dtype)


def block_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean absolute difference of two maps of one shape over the teacher's standard deviation, by which paths are rated.

    Source: Li et al., Blockwisely supervised neural architecture search with knowledge distillation, CVPR 2020.

    Example:
        >>> block_distance(torch.tensor([0.0, 2.0, 0.0, 2.0]), torch.ones(4))  # 1 over the square root of 4/3
        tensor(0.8660)
    """
    return (student - teacher.detach()).abs().mean() / teacher.detach().std().clamp_min(1e-6)
