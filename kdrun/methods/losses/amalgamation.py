"""Losses of several teachers that know different classes, and what they say together.

Each teacher's logits [B, K_i] come with the numbers of its classes among the student's K. Teachers get no gradient.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.response import soft_cross_entropy

__all__ = ["Unifying", "connected", "joined_logits", "partial_cross_entropy", "restricted", "surest", "unified", "unit_norms"]

Unifying = Literal["ce", "mf_prob", "mf_logit", "sd"]
Numbers = Sequence[Sequence[int]]
LEAST = 1e-12  # of a probability whose logarithm is taken


def joined_logits(logits: Sequence[Tensor], numbers: Numbers, classes: int) -> Tensor:
    """The logits [B, K] of several teachers side by side; the mean where several know a class.

    Source: Shen et al., Amalgamating knowledge towards comprehensive classification, AAAI 2019, section 4.1.

    Example:
        >>> joined_logits([torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 3.0]])], [(0, 2), (2, 1)], classes=3)
        tensor([[1., 3., 3.]])
    """
    total = logits[0].new_zeros(len(logits[0]), classes)
    count = logits[0].new_zeros(classes)
    for own, known in zip(logits, numbers, strict=True):
        place = torch.as_tensor(known, device=own.device)
        total = total.index_add(1, place, own)
        count = count.index_add(0, place, torch.ones_like(place, dtype=count.dtype))
    return total / count


def restricted(logits: Tensor, known: Sequence[int]) -> Tensor:
    """The columns [B, K_i] of logits [B, K] that a teacher knows."""
    return logits[:, torch.as_tensor(known, device=logits.device)]


def partial_cross_entropy(teachers: Sequence[Tensor], student: Tensor, numbers: Numbers, temperature: float = 1.0) -> Tensor:
    """The student's soft cross-entropy with each teacher among the classes that this one knows, summed over teachers.

    Source: Vongkulbhisal, Vinayavekhin, Visentini-Scarzanella, Unifying heterogeneous classifiers with distillation, CVPR
    2019: equation 5, of the student's answer itself.

    Args:
        teachers: logits [B, K_i] of each.
        student: logits [B, K].
        numbers: the classes of each teacher.
        temperature: what all are divided by.

    Example:
        >>> teachers = [torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]]).log()]
        >>> partial_cross_entropy(teachers, torch.zeros(1, 3), [(0, 1), (1, 2)])  # 2 log 2
        tensor(1.3863)
    """
    return torch.stack([soft_cross_entropy(own, restricted(student, known), temperature)
                        for own, known in zip(teachers, numbers, strict=True)]).sum()


def unified(teachers: Sequence[Tensor], numbers: Numbers, classes: int, form: Unifying, temperature: float = 1.0,
            rounds: int = 100) -> Tensor:
    """One answer over all classes that explains those of teachers which know some classes each.

    Source: Vongkulbhisal, Vinayavekhin, Visentini-Scarzanella, Unifying heterogeneous classifiers with distillation, CVPR
    2019, section 3.

    Args:
        teachers: logits [B, K_i] of each.
        numbers: the classes of each.
        classes: K.
        form: `ce` has the least cross-entropy with the teachers, each among its own classes; `mf_prob` is the factor of
            the rank-one matrix of classes and teachers that is nearest to the probabilities which are known, `mf_logit` the
            logits to which each teacher adds a constant, likewise; `sd` is the mean of the probabilities, 0 where unknown.
        temperature: what logits are divided by.
        rounds: of the search for it.

    Returns:
        Log-probabilities [B, K].

    Example:
        >>> teachers = [torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]]).log()]
        >>> unified(teachers, [(0, 1), (1, 2)], 3, "ce").exp()  # 2/3, 1/6, 1/6
        tensor([[0.6667, 0.1667, 0.1667]])
        >>> unified(teachers, [(0, 1), (1, 2)], 3, "sd").exp()
        tensor([[0.4000, 0.3500, 0.2500]])
    """
    scaled = [own.detach() / temperature for own in teachers]
    known = torch.stack([torch.zeros(classes, device=own.device).index_fill(0, torch.as_tensor(part, device=own.device), 1.0)
                         for own, part in zip(scaled, numbers, strict=True)])[:, None]  # [teachers, 1, K]
    if form == "mf_logit":
        return F.log_softmax(common_logits(padded(scaled, numbers, classes), known, rounds), dim=1)
    wanted = padded([F.softmax(own, dim=1) for own in scaled], numbers, classes)
    if form == "sd":
        return (wanted.mean(dim=0)).clamp_min(LEAST).log()
    if form == "mf_prob":
        return common_factor(wanted, known, rounds).clamp_min(LEAST).log()
    guess = torch.zeros_like(wanted[0])
    for _ in range(rounds):  # of gradient descent; the slope's own changes by no more than half the number of teachers
        given = F.softmax(guess.masked_fill(known == 0, -torch.inf), dim=2)
        guess = guess - 2 / len(scaled) * (given - wanted).sum(dim=0)
    return F.log_softmax(guess, dim=1)


def padded(answers: Sequence[Tensor], numbers: Numbers, classes: int) -> Tensor:
    """The answers [B, K_i] of teachers as [teachers, B, K], 0 where a class is unknown."""
    return torch.stack([own.new_zeros(len(own), classes).index_copy(1, torch.as_tensor(part, device=own.device), own)
                        for own, part in zip(answers, numbers, strict=True)])


def common_factor(wanted: Tensor, known: Tensor, rounds: int) -> Tensor:
    """Probabilities [B, K] which, times a number for each teacher, are nearest to what is known of [teachers, B, K]."""
    factor = torch.ones_like(wanted[0]) / wanted.shape[2]
    for _ in range(rounds):
        each = (wanted * factor).sum(dim=2, keepdim=True) / (known * factor.square()).sum(dim=2, keepdim=True).clamp_min(LEAST)
        factor = (wanted * each).sum(dim=0) / (known * each.square()).sum(dim=0).clamp_min(LEAST)
        factor = factor / factor.sum(dim=1, keepdim=True)
    return factor


def common_logits(wanted: Tensor, known: Tensor, rounds: int) -> Tensor:
    """Logits [B, K] to which each teacher adds a number, nearest to what is known of [teachers, B, K]."""
    common = torch.zeros_like(wanted[0])
    for _ in range(rounds):
        each = (known * (wanted - common)).sum(dim=2, keepdim=True) / known.sum(dim=2, keepdim=True)
        common = (known * (wanted - each)).sum(dim=0) / known.sum(dim=0)
    return common


def connected(numbers: Numbers) -> bool:
    """Whether teachers hang together by classes that they share, so that their answers say how all classes compare.

    Example:
        >>> connected([(0, 1), (1, 2)]), connected([(0, 1), (2, 3)])
        (True, False)
    """
    reached, left = set(numbers[0]), [set(part) for part in numbers[1:]]
    while near := [part for part in left if part & reached]:
        reached, left = reached.union(*near), [part for part in left if part not in near]
    return not left


def surest(logits: Sequence[Tensor]) -> Tensor:
    """Which of several teachers of the same classes is surest of each sample: has the least entropy; [B].

    Source: Shen, Xue, Wang, Song, Sun, Song, Customizing student networks from heterogeneous teachers via adaptive knowledge
    amalgamation, ICCV 2019, section 3.2.

    Example:
        >>> surest([torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()])
        tensor([1])
    """
    logs = [F.log_softmax(own.detach(), dim=1) for own in logits]
    return torch.stack([-(one.exp() * one).sum(dim=1) for one in logs]).argmin(dim=0)


def unit_norms(weight: Tensor) -> Tensor:
    """How far the rows of a layer's weight [out, ...] are from length one: the mean squared error of the squared length.

    It keeps maps that are brought together from shrinking to nothing; of zeros it is 1.

    Source: Shen et al., Customizing student networks from heterogeneous teachers via adaptive knowledge amalgamation, ICCV
    2019, and the authors' code.

    Example:
        >>> unit_norms(torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
        tensor(0.5000)
    """
    return (weight.flatten(1).square().sum(dim=1) - 1).square().mean()
