"""What the noisy votes of teachers tell of any one of their training samples: an account in (epsilon, delta).

Each teacher is trained on samples of its own, so another sample changes one vote: two counts, by one each. The answer is
the class whose count plus Laplace noise of scale 1/gamma is the largest, which is 2 gamma-differentially private
(Papernot et al. 2017). Moments of the privacy loss add up over answers, and give epsilon for a delta.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Account", "account", "laplace", "moment", "wrong_answer"]


def wrong_answer(votes: Tensor, gamma: float) -> Tensor:
    """An upper bound [N] of the probability that noise makes another class win than the one with the most votes.

    Source: Papernot, Abadi, Erlingsson, Goodfellow, Talwar, Semi-supervised knowledge transfer for deep learning from
    private training data, ICLR 2017, lemma 4; at most 1 - 1/K, as in the authors' code.

    Args:
        votes: counts [N, K].
        gamma: the inverse scale of the Laplace noise.

    Example:
        >>> wrong_answer(torch.tensor([[2, 0], [5, 5]]), gamma=1.0)  # (2 + 2) / (4 exp(2)), and 1/2
        tensor([0.1353, 0.5000], dtype=torch.float64)
    """
    counts = votes.double().sort(dim=1, descending=True).values
    behind = gamma * (counts[:, :1] - counts[:, 1:])
    return ((2 + behind) / (4 * behind.exp())).sum(dim=1).clamp_max(1 - 1 / votes.shape[1])


def moment(wrong: float, epsilon: float, order: int) -> float:
    """An upper bound of the logarithm of a moment of an answer's privacy loss.

    Source: Papernot et al. 2017, theorems 2 and 3; the least of three bounds: of any epsilon-private answer (two of them),
    and of an answer that is almost certain.

    Args:
        wrong: the probability that the answer is not the most likely one, or a bound; 1 for a bound whatever the data.
        epsilon: of one answer by itself.
        order: of the moment, from 1.

    Example:
        >>> round(moment(1.0, epsilon=0.1, order=5), 4), round(moment(1e-4, epsilon=0.1, order=5), 6)
        (0.15, 0.000117)
    """
    bounds = [epsilon**2 * order * (order + 1) / 2, epsilon * order]
    if wrong < 1 / (math.exp(epsilon) + 1):  # theorem 3's condition, (e^epsilon - 1) / (e^2epsilon - 1)
        certain = (1 - wrong) * ((1 - wrong) / (1 - math.exp(epsilon) * wrong)) ** order
        bounds.append(math.log(certain + wrong * math.exp(epsilon * order)))
    return min(bounds)


@dataclass(frozen=True)
class Account:
    """What answers cost.

    Attributes:
        epsilon: the least over all orders.
        order: of the moment that gives it.
    """

    epsilon: float
    order: int


def account(wrong: Sequence[float], gamma: float, delta: float, orders: int) -> Account:
    """The least epsilon for which so many answers together are (epsilon, delta)-differentially private.

    With bounds of the very votes (`wrong_answer`) epsilon itself depends on the private samples: it says what was given away
    and may not be published as it is. With 1 for each answer it does not, and is larger.

    Source: Papernot et al. 2017, theorem 1.

    Args:
        wrong: for each answer, the probability that it is not the most likely one, or a bound.
        gamma: the inverse scale of the Laplace noise.
        delta: the probability with which privacy may be lost.
        orders: how many moments are followed, from 1.

    Example:
        >>> round(account([1.0] * 100, gamma=0.05, delta=1e-5, orders=8).epsilon, 4)
        5.3026
    """
    costs = [(sum(moment(one, 2 * gamma, order) for one in wrong) + math.log(1 / delta)) / order
             for order in range(1, orders + 1)]
    least = min(costs)
    return Account(least, 1 + costs.index(least))


def laplace(shape: Sequence[int], scale: float, draws: torch.Generator) -> Tensor:
    """Laplace noise of mean 0 and variance 2 scale^2, float64.

    Args:
        shape: of the noise.
        scale: of the noise.
        draws: what it is drawn from.
    """
    uniform = torch.rand(*shape, generator=draws, dtype=torch.float64) - 0.5
    return -scale * uniform.sign() * torch.log1p(-2 * uniform.abs().clamp_max(0.5 - 1e-16))
