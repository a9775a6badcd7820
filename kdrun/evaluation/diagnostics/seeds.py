"""What a population of networks (one a seed) does to classes and to single pictures, beside another population.

(Hooker et al., What do compressed deep neural networks forget?, 2019, and Characterising bias in compressed models, 2020.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from kdrun.analysis.statistics import holm
from kdrun.evaluation import metrics

__all__ = ["ClassImpact", "Exemplars", "class_impact", "exemplars", "modal_labels"]


class ClassImpact(NamedTuple):
    """What happens to one class from one population to the other.

    Attributes:
        label: the class.
        recall: its mean recall in the two populations.
        difference: of the mean normalised recalls, second minus first; a recall is normalised by its network's accuracy.
        t: Welch's statistic; None where it is not defined.
        p: its two-sided probability; None likewise.
        p_holm: the same after Holm's correction over the classes.
    """

    label: int
    recall: tuple[float, float]
    difference: float
    t: float | None
    p: float | None
    p_holm: float | None


def class_impact(first: Sequence[Tensor], second: Sequence[Tensor], labels: Tensor) -> list[ClassImpact]:
    """Compare two populations class by class, beyond what happens to all classes.

    For each class Welch's t test between the two sets of recall minus accuracy, a value for each network; over the classes
    Holm's correction, which holds the probability of any false alarm. A class without samples is left out.

    Args:
        first: logits [N, K] of each network of the reference population.
        second: of the other.
        labels: [N].
    """
    from scipy.stats import ttest_ind

    recalls = [numpy.array([metrics.recall(logits, labels) for logits in answers], dtype=float) for answers in (first, second)]
    accuracies = [numpy.array([metrics.accuracy(logits, labels) for logits in answers]) for answers in (first, second)]
    normal = [recall - accuracy[:, None] for recall, accuracy in zip(recalls, accuracies, strict=True)]
    present = [label for label in range(recalls[0].shape[1]) if bool((labels == label).any())]
    found = []
    for label in present:
        before, after = (values[:, label] for values in normal)
        t = p = None
        # without any spread between seeds the test has nothing to go by
        if min(len(before), len(after)) > 1 and max(before.std(), after.std()) > 1e-12:
            tested = ttest_ind(after, before, equal_var=False)
            t, p = float(tested.statistic), float(tested.pvalue)
        found.append(ClassImpact(label, (float(recalls[0][:, label].mean()), float(recalls[1][:, label].mean())),
                                 float(after.mean() - before.mean()), t, p, None))
    return [one._replace(p_holm=corrected)
            for one, corrected in zip(found, holm([one.p for one in found]), strict=True)]


def votes(answers: Sequence[Tensor], classes: int) -> Tensor:
    """The share of networks that give each class to each picture: [N, K]."""
    given = torch.stack([logits.argmax(dim=1) for logits in answers])
    return torch.nn.functional.one_hot(given, classes).double().mean(dim=0)


def modal_labels(shares: Tensor) -> Tensor:
    """The class [N] that most networks give; of several the one with the smallest number, by rule."""
    best = shares == shares.amax(dim=1, keepdim=True)
    places = torch.arange(shares.shape[1]).expand_as(best)
    return torch.where(best, places, shares.shape[1]).amin(dim=1)


class Exemplars(NamedTuple):
    """What two populations say of each of N pictures.

    Attributes:
        modal: the class [N] that most networks of each population give.
        identified: [N], whether those differ: a compression-identified exemplar.
        taxicab: [N], the sum of differences between the two populations' shares of each class, from 0 to 2.
        right: [N], the share of each population that is right.
    """

    modal: tuple[Tensor, Tensor]
    identified: Tensor
    taxicab: Tensor
    right: tuple[Tensor, Tensor]


def exemplars(first: Sequence[Tensor], second: Sequence[Tensor], labels: Tensor) -> Exemplars:
    """Find the pictures that two populations see differently.

    Args:
        first: logits [N, K] of each network of the reference population.
        second: of the other.
        labels: [N].
    """
    shares = [votes(answers, first[0].shape[1]) for answers in (first, second)]
    before, after = (modal_labels(share) for share in shares)
    right = [share.gather(1, labels[:, None])[:, 0] for share in shares]
    return Exemplars((before, after), before != after, (shares[0] - shares[1]).abs().sum(dim=1), (right[0], right[1]))
