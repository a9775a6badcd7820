"""Parts of what a teacher's answer says, each as a distribution of its own.

Source: Tang, Shivanna, Zhao, Lin, Singh, Chi, Jain: Understanding and improving knowledge distillation. arXiv 2002.03532, 2020.
Its abstract names the parts; how each is cut out is an approximation.
"""

import torch
from torch import Tensor

__all__ = ["class_relations", "gradient_ratio", "kept_largest", "permuted_rest", "smoothed_by", "true_class_alone"]


def true_class_alone(teacher: Tensor, labels: Tensor) -> Tensor:
    """The teacher's probability of the true class, and the rest alike over all others: how sure it is of each sample.

    Source: Tang et al., Understanding and improving knowledge distillation, 2020 (KD-pt).

    Args:
        teacher: probabilities [B, K].
        labels: [B].

    Example:
        >>> true_class_alone(torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([0]))
        tensor([[0.6000, 0.2000, 0.2000]])
    """
    sure = teacher.gather(1, labels[:, None])
    rest = (1 - sure) / (teacher.shape[1] - 1)
    return rest.expand_as(teacher).scatter(1, labels[:, None], sure)


def smoothed_by(teacher: Tensor, labels: Tensor) -> Tensor:
    """Smoothed labels: as `true_class_alone`, with the batch's mean probability of true classes in the place of each own.

    Source: Szegedy et al., Rethinking the inception architecture, CVPR 2016, section 7, with as much smoothing as the teacher
    has on average.

    Args:
        teacher: probabilities [B, K].
        labels: [B].

    Example:
        >>> smoothed_by(torch.tensor([[0.6, 0.3, 0.1], [0.0, 0.8, 0.2]]), torch.tensor([0, 1]))[0]
        tensor([0.7000, 0.1500, 0.1500])
    """
    sure = teacher.gather(1, labels[:, None]).mean(dim=0, keepdim=True).expand(len(teacher), 1)
    return ((1 - sure) / (teacher.shape[1] - 1)).expand_as(teacher).scatter(1, labels[:, None], sure)


def class_relations(weights: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """How alike the classes are to the teacher, the same for all samples of a class: a softmax of cosines of its classifier.

    Source: Tang et al., Understanding and improving knowledge distillation, 2020 (KD-sim).

    Args:
        weights: of the teacher's last layer [K, D], a row a class.
        labels: [B].
        temperature: of the softmax.

    Example:
        >>> class_relations(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]]), torch.tensor([0]), 1.0)
        tensor([[0.5761, 0.2119, 0.2119]])
    """
    unit = torch.nn.functional.normalize(weights, dim=1)
    return (unit @ unit.T / temperature).softmax(dim=1)[labels]


def kept_largest(teacher: Tensor, count: int) -> Tensor:
    """The teacher's largest probabilities as they are, and the rest alike over all others.

    Source: Tang et al., Understanding and improving knowledge distillation, 2020 (KD-topk).

    Args:
        teacher: probabilities [B, K].
        count: how many are kept, below K.

    Example:
        >>> kept_largest(torch.tensor([[0.6, 0.1, 0.3, 0.0]]), 2)
        tensor([[0.6000, 0.0500, 0.3000, 0.0500]])
    """
    values, places = teacher.topk(count, dim=1)
    rest = (1 - values.sum(dim=1, keepdim=True)).clamp_min(0) / (teacher.shape[1] - count)
    return rest.expand_as(teacher).scatter(1, places, values)


def permuted_rest(teacher: Tensor, labels: Tensor, draws: Tensor) -> Tensor:
    """The teacher's probabilities with those of the false classes in another order: which class is like which is lost.

    Source: Furlanello et al., Born-again neural networks, ICML 2018 (dark knowledge with permuted predictions).

    Args:
        teacher: probabilities [B, K].
        labels: [B].
        draws: [B, K], whose order is the order.

    Example:
        >>> permuted_rest(torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([0]), torch.tensor([[0.5, 0.9, 0.2]]))
        tensor([[0.6000, 0.1000, 0.3000]])
    """
    true = torch.nn.functional.one_hot(labels, teacher.shape[1]).bool()
    places = draws.masked_fill(true, torch.inf).argsort(dim=1)          # false classes as drawn, the true one last
    own = torch.arange(teacher.shape[1], device=teacher.device).expand_as(places)
    false = own.masked_fill(true, teacher.shape[1]).argsort(dim=1)      # false classes by number, the true one last
    return torch.zeros_like(teacher).scatter(1, false, teacher.gather(1, places))


def gradient_ratio(teacher: Tensor, student: Tensor, labels: Tensor, weight: float) -> Tensor:
    """By how much distillation weighs the gradient of each sample's true logit anew, beside that of the labels alone: [B].

    At temperature 1 this is 1 - w + w (p - q) / (1 - q), of the teacher's and the student's probability of the true class.
    Above 1 - w the teacher is surer than the student.

    Source: Tang et al., Understanding and improving knowledge distillation, 2020 (re-weighting), derived for this form.

    Args:
        teacher: probabilities [B, K].
        student: likewise.
        labels: [B].
        weight: w of the soft term; the labels have 1 - w.

    Example:
        >>> gradient_ratio(torch.tensor([[0.9, 0.1]]), torch.tensor([[0.6, 0.4]]), torch.tensor([0]), 0.5)
        tensor([0.8750])
    """
    sure, own = (answer.gather(1, labels[:, None])[:, 0] for answer in (teacher, student))
    return 1 - weight + weight * (sure - own) / (1 - own).clamp_min(1e-12)
