"""Losses of logits: what a student is taught to answer.

All take logits [B, K], the teacher's first, and return a scalar. The teacher's side gets no gradient unless a function
says so. A divergence is summed over classes and averaged over samples, in nats. Of no sample at all (a batch all of whose
pixels are ignored, say) every loss here is 0, with a gradient of 0.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import mixture, row_mean

__all__ = ["Mean", "conditional", "consensus", "dcm", "dist", "dkd", "dkd_parts", "dml", "feature_normalised", "kd",
           "kd_of_teachers", "kl", "logit_mse", "smoothed_labels", "soft_cross_entropy", "top_score_difference"]

Mean = Literal["prob", "logit", "loss"]


def divergence(given: Tensor, wanted: Tensor) -> Tensor:
    """KL divergence of log-probabilities [B, K] from the wanted ones [B, K]."""
    return F.kl_div(given, wanted, reduction="batchmean" if len(given) else "sum", log_target=True)


def kl(teacher: Tensor, student: Tensor, temperature: float = 1.0, *, train_teacher: bool = False) -> Tensor:
    """KL divergence of the student's softmax from the teacher's, both at a temperature; no factor of its square.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        temperature: what both are divided by.
        train_teacher: whether the teacher's logits get a gradient too.

    Example:
        >>> kl(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), temperature=2.0)
        tensor(0.1109)
    """
    wanted = F.log_softmax((teacher if train_teacher else teacher.detach()) / temperature, dim=1)
    given = F.log_softmax(student / temperature, dim=1)
    return divergence(given, wanted)


def kd(teacher: Tensor, student: Tensor, temperature: float, *, train_teacher: bool = False) -> Tensor:
    """`kl` times the squared temperature, which keeps its gradient comparable with that of a cross-entropy.

    Source: Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, arXiv 1503.02531, 2015.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        temperature: what both are divided by.
        train_teacher: whether the teacher's logits get a gradient too.

    Example:
        >>> kd(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), temperature=2.0)
        tensor(0.4438)
    """
    return temperature**2 * kl(teacher, student, temperature, train_teacher=train_teacher)


def soft_cross_entropy(teacher: Tensor, student: Tensor, temperature: float | Tensor = 1.0, *,
                       train_teacher: bool = False) -> Tensor:
    """Cross-entropy against the teacher's softmax: `kl` plus the teacher's entropy, so equal in gradient, not in value.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        temperature: what both are divided by.
        train_teacher: whether the teacher's logits get a gradient too.

    Example:
        >>> soft_cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]))  # log 2
        tensor(0.6931)
    """
    wanted = F.softmax((teacher if train_teacher else teacher.detach()) / temperature, dim=1)
    return -row_mean((wanted * F.log_softmax(student / temperature, dim=1)).sum(dim=1))


def dkd_parts(teacher: Tensor, student: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The two parts of the KL divergence, each times the squared temperature.

    Source: Zhao et al., Decoupled knowledge distillation, CVPR 2022, equation 6.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        labels: [B].
        temperature: what both are divided by.

    Returns:
        The target part (the label against all other classes) and the non-target part (the other classes among
        themselves), scalars. At temperature 1, KL = target + (1 - p_teacher(label)) * non-target for each sample.

    Example:
        >>> target, others = dkd_parts(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([0]), 2.0)
        >>> target, others  # with two classes the target part is all there is
        (tensor(0.4438), tensor(0.))
    """
    wanted, given = (F.log_softmax(logits / temperature, dim=1) for logits in (teacher.detach(), student))
    own = F.one_hot(labels, wanted.shape[1]).bool()
    rest = wanted.shape[1] - 1

    def split(logs: Tensor) -> tuple[Tensor, Tensor]:
        others = logs[~own].view(-1, rest)
        total = torch.logsumexp(others, dim=1)  # never the log of a sum of softmaxes: that is -inf for a sure answer
        return torch.stack([logs[own], total], dim=1), others - total[:, None]

    (wanted_pair, wanted_rest), (given_pair, given_rest) = split(wanted), split(given)
    target, others = (divergence(mine, theirs)
                      for mine, theirs in ((given_pair, wanted_pair), (given_rest, wanted_rest)))
    return temperature**2 * target, temperature**2 * others


def dkd(teacher: Tensor, student: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    """The two parts of the KL divergence, weighted apart.

    Source: Zhao et al., Decoupled knowledge distillation, CVPR 2022, equation 7.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        labels: [B].
        temperature: what both are divided by.
        alpha: weight of the target part.
        beta: weight of the non-target part.

    Example:
        >>> dkd(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([0]), 2.0, alpha=1.0, beta=8.0)
        tensor(0.4438)
    """
    target, others = dkd_parts(teacher, student, labels, temperature)
    return alpha * target + beta * others


def logit_mse(teacher: Tensor, student: Tensor, *, reduction: Literal["sum_class", "mean"] = "sum_class",
              center: bool = False) -> Tensor:
    """Squared distance of logits.

    Source: Ba, Caruana, Do deep nets really need to be deep? NeurIPS 2014, equation 1.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        reduction: `sum_class` is half the sum over classes, averaged over samples (the paper's); `mean` averages over both.
        center: whether each sample's mean difference is taken off first: a softmax does not see it.

    Example:
        >>> logit_mse(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        tensor(2.)
        >>> logit_mse(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), reduction="mean", center=True)
        tensor(1.)
    """
    difference = student - teacher.detach()
    if center:
        difference = difference - difference.mean(dim=1, keepdim=True)
    squares = difference.square()
    return row_mean(squares) if reduction == "mean" else row_mean(squares.sum(dim=1)) / 2


def kd_of_teachers(teachers: Sequence[Tensor], student: Tensor, temperature: float, mean: Mean = "prob") -> Tensor:
    """`kd` from the mean of several teachers.

    Source: Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, arXiv 1503.02531, 2015.

    Args:
        teachers: logits [B, K] of each.
        student: logits [B, K].
        temperature: what all are divided by.
        mean: `prob` averages the teachers' softmaxes, `logit` their logits, `loss` their losses.

    Example:
        >>> teachers = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])]
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> [round(float(kd_of_teachers(teachers, student, 2.0, mean)), 4) for mean in ("prob", "logit", "loss")]
        [0.0, 0.0, 0.4438]
    """
    if mean == "prob":
        return kd(mixture(teachers, temperature), student, temperature)
    if mean == "logit":
        return kd(torch.stack([*teachers]).mean(dim=0), student, temperature)
    return torch.stack([kd(logits, student, temperature) for logits in teachers]).mean()


def dml(others: Sequence[Tensor], own: Tensor, temperature: float, target: Literal["each", "ensemble"] = "each") -> Tensor:
    """How far one network's logits are from those of the networks that learn beside it.

    Source: Zhang et al., Deep mutual learning, CVPR 2018, equations 5 and 8 (at temperature 1).

    Args:
        others: logits [B, K] of each other network.
        own: logits [B, K].
        temperature: what all are divided by.
        target: `each` averages the divergences from the others, `ensemble` takes the one from their mean logits.

    Example:
        >>> dml([torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])], torch.tensor([[0.0, 0.0]]), temperature=1.0)
        tensor(0.1639)
    """
    targets = list(others) if target == "each" else [torch.stack(list(others)).mean(dim=0)]
    return torch.stack([kd(other, own, temperature) for other in targets]).mean()


def consensus(others: Sequence[Tensor], own: Tensor) -> Tensor:
    """Cross-entropy against the mean of other networks' softmaxes.

    Source: Anil et al., Large scale distributed neural network training through online distillation, ICLR 2018.

    Args:
        others: logits [B, K] of each other network.
        own: logits [B, K].

    Example:
        >>> consensus([torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])], torch.tensor([[0.0, 0.0]]))  # log 2
        tensor(0.6931)
    """
    wanted = torch.stack([F.softmax(other.detach(), dim=1) for other in others]).mean(dim=0)
    return -(wanted * F.log_softmax(own, dim=1)).sum(dim=1).mean()


def dcm(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """The divergences of every classifier of one network from every one of another, and the other way round.

    Each is taught by all of the other network, at whatever depth they sit, and by none of its own.

    Source: Yao, Sun, Knowledge transfer via dense cross-layer mutual-distillation, ECCV 2020, equation 5, and the authors'
    code (at temperature 1).

    Args:
        first: logits [B, K] of each classifier of a network.
        second: likewise, of the other.

    Returns:
        A scalar: the sum of 2 * len(first) * len(second) divergences.

    Example:
        >>> sure, unsure = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> dcm([sure], [unsure]), dcm([sure, sure], [unsure])  # 0.3278 + 0.4338, then twice that
        (tensor(0.7616), tensor(1.5232))
    """
    pairs = [(own, other) for own in first for other in second]
    return torch.stack([kl(teacher, student) for pair in pairs for teacher, student in (pair, pair[::-1])]).sum()


def feature_normalised(logits: Tensor, embedding: Tensor, bias: Tensor | None, length: float, clip: bool) -> Tensor:
    """The logits [B, K] of a linear classifier, had the embedding another length.

    Source: Xu, Rui, Li, Gu, Feature normalized knowledge distillation for image classification, ECCV 2020, equation 8 and the
    authors' code.

    Args:
        logits: [B, K], that the classifier made of the embedding.
        embedding: [B, D].
        bias: of the classifier, [K]; None where it has none.
        length: to which the embedding is brought.
        clip: whether one that is shorter stays as it is.

    Example:
        >>> embedding = torch.tensor([[3.0, 4.0]])  # of length 5
        >>> feature_normalised(embedding + 1, embedding, torch.tensor([1.0, 1.0]), length=2.0, clip=True)
        tensor([[2.2000, 2.6000]])
    """
    scale = length / (embedding.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    scale = scale.clamp_max(1.0) if clip else scale
    return scale * logits if bias is None else scale * (logits - bias) + bias


def smoothed_labels(labels: Tensor, classes: int, confidence: float) -> Tensor:
    """Probabilities [B, K] of a teacher made by hand: `confidence` for the label, the rest shared evenly.

    Source: Yuan et al., Revisiting knowledge distillation via label smoothing regularization, CVPR 2020, equation 7.

    Args:
        labels: [B].
        classes: K, at least 2.
        confidence: the probability of the label.

    Example:
        >>> smoothed_labels(torch.tensor([2]), classes=3, confidence=0.9)
        tensor([[0.0500, 0.0500, 0.9000]])
    """
    even = torch.full((len(labels), classes), (1 - confidence) / (classes - 1), device=labels.device)
    return even.scatter(1, labels[:, None], confidence)


def conditional(teacher: Tensor, student: Tensor, labels: Tensor, temperature: float = 1.0, smoothing: float = 0.0
                ) -> tuple[Tensor, Tensor]:
    """Soft cross-entropy where the teacher is right, and cross-entropy with the label where it is not.

    Source: Meng, Li, Zhao, Gong, Conditional teacher-student learning, ICASSP 2019.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        labels: [B].
        temperature: of the soft part, which holds its square.
        smoothing: of the labels in the hard part.

    Returns:
        The soft and the hard part, scalars: sums over their samples, both divided by B.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0], [2.0, 0.0]])  # right of the first, wrong of the second
        >>> conditional(teacher, torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1]))
        (tensor(0.3466), tensor(1.5243))
    """
    right = teacher.argmax(dim=1) == labels
    wanted = F.softmax(teacher.detach() / temperature, dim=1)
    soft = -temperature**2 * (wanted * F.log_softmax(student / temperature, dim=1)).sum(dim=1)
    hard = F.cross_entropy(student, labels, reduction="none", label_smoothing=smoothing)
    return row_mean(soft * right), row_mean(hard * ~right)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation [N] of the rows of two matrices [N, D]; 0 where a row is constant."""
    first, second = (rows - rows.mean(dim=1, keepdim=True) for rows in (first, second))
    return (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1) + 1e-8)


def dist(teacher: Tensor, student: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """How far two networks' probabilities are from correlating, over the classes of a sample and the samples of a class.

    Source: Huang, You, Wang, Qian, Xu, Knowledge distillation from a stronger teacher, NeurIPS 2022, equations 9 and 10.

    Args:
        teacher: logits [B, K].
        student: logits [B, K].
        temperature: what both are divided by.

    Returns:
        Two scalars from 0 to 2, each times the squared temperature: 1 minus the mean correlation of rows, and of columns.
        A column that does not vary over the batch counts 1.

    Example:
        >>> teacher = 2 * torch.eye(3)
        >>> dist(teacher, teacher.roll(1, 1), temperature=1.0)
        (tensor(1.5000), tensor(1.5000))
    """
    if not len(student):
        return student.sum(), student.sum()
    wanted, given = F.softmax(teacher.detach() / temperature, dim=1), F.softmax(student / temperature, dim=1)
    return (temperature**2 * (1 - correlation(wanted, given).mean()),
            temperature**2 * (1 - correlation(wanted.T, given.T).mean()))


def top_score_difference(logits: Tensor, count: int) -> Tensor:
    """How far the largest probability is above the mean of the next largest.

    Source: Yang, Xie, Qiao, Yuille, Training deep neural networks in generations, AAAI 2019.

    Args:
        logits: [B, K].
        count: how many of the largest are looked at, the first included; from 2 to K.

    Returns:
        A scalar from 0 to 1, with a gradient through all of them.

    Example:
        >>> top_score_difference(torch.tensor([[0.6, 0.2, 0.1, 0.06, 0.04]]).log(), count=3)  # 0.6 - (0.2 + 0.1) / 2
        tensor(0.4500)
    """
    largest = F.softmax(logits, dim=1).topk(count, dim=1).values
    return row_mean(largest[:, 0] - largest[:, 1:].mean(dim=1))
