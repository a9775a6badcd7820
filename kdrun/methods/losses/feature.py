"""Losses of maps inside networks: what a student's layers are taught to show.

All take the teacher's maps [B, C, H, W] first, which get no gradient unless a function says so, and return a scalar.
Where height and width differ, `same_size` brings the larger to the smaller first; each function says whether channels
may differ.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.methods.losses.arithmetic import mean_distance, same_size, unit_rows

__all__ = ["ab", "at", "attention_map", "cross_distillation", "expected_negative", "factor", "ft", "hint", "jacobian",
           "map_mse", "mean_discrepancy", "measured_negative", "nst", "ofd", "vid"]


def hint(teacher: Tensor, regressed: Tensor) -> Tensor:
    """Half the squared distance over channels, averaged over places and samples.

    Source: Romero et al., FitNets: hints for thin deep nets, ICLR 2015, equation 3.

    Args:
        teacher: the hint [B, C, H, W].
        regressed: the student's guided map, brought to the same shape by a regressor.

    Example:
        >>> hint(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
        tensor(1.5000)
    """
    return (regressed - teacher.detach()).square().sum(dim=1).mean() / 2


def map_mse(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of two stacks of maps of equal channels; the joint hint of toolkits (Tian et al. 2020).

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C, H', W'], brought to the teacher's channels.

    Example:
        >>> map_mse(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 8, 8))
        tensor(1.)
    """
    student, teacher = same_size(student, teacher.detach())
    return (student - teacher).square().mean()


def attention_map(maps: Tensor, power: float) -> Tensor:
    """Where a map [B, C, H, W] is active: [B, H*W], of length one (Zagoruyko and Komodakis 2017, section 3.1).

    Args:
        maps: [B, C, H, W].
        power: of the absolute values that are averaged over channels.

    Example:
        >>> attention_map(torch.tensor([[[[3.0 ** 0.5, 2.0]]]]), power=2)  # 3 and 4, of length one
        tensor([[0.6000, 0.8000]])
    """
    sizes = maps if power % 2 == 0 else maps.abs()  # an even power has no sign to lose
    return unit_rows(sizes.pow(power).mean(dim=1).flatten(1))


def at(teacher: Tensor, student: Tensor, power: float, mode: Literal["code", "paper"] = "code", *,
       train_teacher: bool = False) -> Tensor:
    """How differently two stages spread their attention; channels may differ.

    Source: Zagoruyko, Komodakis, Paying more attention to attention, ICLR 2017, equation 2 and the authors' code.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C', H', W'].
        power: see `attention_map`.
        mode: `code` is the mean squared difference that the authors released, `paper` half the unsquared distance.
        train_teacher: whether the teacher's maps get a gradient too.

    Example:
        >>> left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
        >>> at(left, right, power=2), at(left, right, power=2, mode="paper")  # 1, and sqrt(2) / 2
        (tensor(1.), tensor(0.7071))
    """
    student, teacher = same_size(student, teacher if train_teacher else teacher.detach())
    given, wanted = attention_map(student, power), attention_map(teacher, power)
    return (given - wanted).square().mean() if mode == "code" else mean_distance(given, wanted) / 2


def nst(teacher: Tensor, student: Tensor, kernel: Literal["poly", "linear", "gaussian"] = "poly") -> Tensor:
    """Squared maximum mean discrepancy of two sets of channels; their numbers may differ.

    Each channel of a map is one point: its pattern over the places, of length one.

    Source: Huang, Wang, Like what you like: knowledge distill via neuron selectivity transfer, arXiv 1707.01219, 2017.

    Args:
        teacher: maps [B, C, H, W].
        student: maps [B, C', H', W'].
        kernel: of two patterns p and q: `linear` is pq, `poly` its square, `gaussian` that of their distance, as wide
            as the mean squared distance between the two sets.

    Returns:
        A scalar: the mean over samples.

    Example:
        >>> left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
        >>> nst(left, right)  # 1 + 1 - 2 * 0
        tensor(2.)
    """
    teacher, student = same_size(teacher, student)
    wanted, given = (F.normalize(maps.flatten(2), dim=2) for maps in (teacher.detach(), student))
    cross = given @ wanted.transpose(1, 2)
    squares = {id(points): points.square().sum(dim=2) for points in (wanted, given)}
    width = torch.ones_like(cross[0, 0, 0])
    if kernel == "gaussian":
        apart = squares[id(given)][:, :, None] + squares[id(wanted)][:, None, :] - 2 * cross
        width = apart.detach().mean().clamp_min(1e-12)

    def mean(first: Tensor, second: Tensor) -> Tensor:
        products = first @ second.transpose(1, 2)
        if kernel == "gaussian":
            apart = squares[id(first)][:, :, None] + squares[id(second)][:, None, :] - 2 * products
            return torch.exp(-apart / (2 * width)).mean()
        return (products.square() if kernel == "poly" else products).mean()

    return mean(wanted, wanted) + mean(given, given) - 2 * mean(given, wanted)


def vid(teacher: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian, but for a constant; it may be negative.

    Source: Ahn et al., Variational information distillation for knowledge transfer, CVPR 2019, equation 6.

    Args:
        teacher: maps [B, C, H, W].
        mean: what the student predicts, the same shape.
        variance: of each channel, [C].

    Returns:
        A scalar: the mean over all elements.

    Example:
        >>> vid(torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.tensor([1.0, 1.0]))
        tensor(0.5000)
    """
    variance = variance[:, None, None]
    return ((teacher.detach() - mean).square() / variance + variance.log()).mean() / 2


def ab(teacher: Tensor, student: Tensor, margin: float) -> Tensor:
    """How far a student's neurons are from the teacher's side of their activation boundary.

    Source: Heo et al., Knowledge transfer via distillation of activation boundaries formed by hidden neurons, AAAI 2019,
    equation 3.

    Args:
        teacher: values before the activation [B, ...]; only their sign counts.
        student: likewise, the same shape.
        margin: how far beyond the boundary a neuron must be.

    Returns:
        A scalar: the squared shortfall, summed over neurons, averaged over samples.

    Example:
        >>> ab(torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, 0.5]]), margin=1.0)  # 0.5 squared and 1.5 squared
        tensor(2.5000)
    """
    active = teacher.detach() > 0
    short = torch.where(active, margin - student, margin + student).clamp_min(0)
    return short.square().sum() / len(student)


def cross_distillation(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], share: float) -> Tensor:
    """How far a layer of the student is from the teacher's on what the teacher's layer sees, and on what the student's sees.

    On the teacher's inputs the student's layer learns what is right, though it will never see them; on its own inputs it
    learns to do as the teacher's layer would, though these are wrong already.

    Source: Bai, Wu, King, Lyu, Few shot network compression via cross distillation, AAAI 2020.

    Args:
        teacher: what the teacher's layer answers to the teacher's inputs and to the student's, each [B, ...].
        student: what the student's layer answers to the same two.
        share: of the teacher's inputs in the loss, from 0 to 1.

    Example:
        >>> answers = torch.ones(2, 3), torch.full((2, 3), 2.0)
        >>> cross_distillation(answers, (torch.zeros(2, 3), torch.zeros(2, 3)), share=0.25)  # a quarter of 1, three of 4
        tensor(3.2500)
    """
    right, own = (F.mse_loss(mine, theirs.detach()) for mine, theirs in zip(student, teacher, strict=True))
    return share * right + (1 - share) * own


def expected_negative(mean: Tensor, spread: Tensor) -> Tensor:
    """What Gaussian values are on average where they are below zero (Heo et al. 2019, equation 5).

    Args:
        mean: of each channel, [C]: the shift of a batch normalisation.
        spread: of each channel, [C]: the size of its scale.

    Returns:
        [C], at most zero; three spreads below zero where hardly any value is negative, as the authors have it.

    Example:
        >>> expected_negative(torch.tensor([0.0]), torch.tensor([1.0]))  # -sqrt(2 / pi)
        tensor([-0.7979])
    """
    spread = spread.abs().clamp_min(1e-12)
    ratio = mean / spread
    share = torch.erfc(ratio / math.sqrt(2)) / 2
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    return torch.where(share > 0.001, mean - spread * density / share.clamp_min(1e-12), -3 * spread)


def measured_negative(maps: Tensor) -> Tensor:
    """The mean [C] of what is below zero in maps [B, C, H, W]; 0 for a channel where nothing is, which needs none.

    Source: Heo et al., A comprehensive overhaul of feature distillation, ICCV 2019, section 3.2, measured instead of derived.

    Example:
        >>> measured_negative(torch.tensor([[[[-1.0, -3.0, 5.0]], [[1.0, 2.0, 3.0]]]]))
        tensor([-2.,  0.])
    """
    negative = maps.clamp_max(0)
    count = (maps < 0).sum(dim=(0, 2, 3))
    return negative.sum(dim=(0, 2, 3)) / count.clamp_min(1)


def ofd(teacher: Tensor, student: Tensor, margin: Tensor | None = None) -> Tensor:
    """Squared distance before the activation that leaves alone what is negative enough in both.

    Source: Heo et al., A comprehensive overhaul of feature distillation, ICCV 2019, equations 2 and 4.

    Args:
        teacher: maps [B, C, H, W] before the activation.
        student: maps [B, C, H', W'], brought to the same channels by a connector.
        margin: of each channel, [C], at most zero: the target where the teacher is below it; None for none.

    Returns:
        A scalar: the sum over elements (where the teacher is positive, or the student above it), the mean over samples.

    Example:
        >>> teacher = torch.tensor([[[[1.0, -2.0]]]])
        >>> ofd(teacher, torch.tensor([[[[0.0, -3.0]]]]), torch.tensor([-0.5]))  # the second is low enough
        tensor(1.)
    """
    teacher = teacher.detach()
    if margin is not None:
        teacher = torch.maximum(teacher, margin.detach()[:, None, None])
    teacher, student = same_size(teacher, student)
    counts = (student > teacher) | (teacher > 0)
    return ((student - teacher).square() * counts).sum() / len(student)


def factor(maps: Tensor, form: Literal["full", "spatial"] = "full") -> Tensor:
    """A factor [B, D] of length one from maps [B, C, H, W]: all of it, or the mean square of each place.

    Source: Kim, Park, Kwak, Paraphrasing complex network, NeurIPS 2018, section 3.3; the second form is RepDistiller's.

    Example:
        >>> factor(torch.tensor([[[[3.0]], [[4.0]]]])), factor(torch.tensor([[[[3.0]], [[4.0]]]]), "spatial")
        (tensor([[0.6000, 0.8000]]), tensor([[1.]]))
    """
    return unit_rows((maps if form == "full" else maps.square().mean(dim=1)).flatten(1))


def ft(teacher: Tensor, student: Tensor, form: Literal["full", "spatial"] = "full") -> Tensor:
    """Mean absolute difference of two factors.

    Source: Kim, Park, Kwak, Paraphrasing complex network: network compression via factor transfer, NeurIPS 2018,
    equation 3.

    Args:
        teacher: the paraphrased map [B, C, H, W].
        student: the translated map [B, C, H', W'].
        form: `full` compares every channel, `spatial` the mean square of each place.

    Example:
        >>> ft(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))  # (0.4 + 0.8) / 2
        tensor(0.6000)
    """
    wanted, given = (factor(maps, form) for maps in same_size(teacher.detach(), student))
    return (given - wanted).abs().mean()


def jacobian(logits: Tensor, inputs: Tensor, labels: Tensor, *, create_graph: bool) -> Tensor:
    """The gradient of the label's logit with respect to the inputs, as rows [B, ...] of length one.

    Two of them are compared by their mean squared difference.

    Source: Srinivas, Fleuret, Knowledge transfer with Jacobian matching, ICML 2018, section 4.

    Args:
        logits: [B, K], computed from `inputs`.
        inputs: [B, ...], which require a gradient.
        labels: [B].
        create_graph: whether the result is to be differentiated again.

    Example:
        >>> inputs = torch.ones(1, 2, requires_grad=True)
        >>> jacobian(inputs @ torch.tensor([[3.0, 0.0], [4.0, 1.0]]), inputs, torch.tensor([0]), create_graph=False)
        tensor([[0.6000, 0.8000]])
    """
    asked = logits.gather(1, labels[:, None]).sum()
    return unit_rows(torch.autograd.grad(asked, inputs, create_graph=create_graph)[0].flatten(1))


def mean_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance of the mean rows of two embeddings [B, D]: the linear maximum mean discrepancy; trains both.

    Source: Xu, Liu, Data-distortion guided self-distillation for deep neural networks, AAAI 2019, equation 5.

    Example:
        >>> mean_discrepancy(torch.eye(2), torch.zeros(2, 2))  # (0.5, 0.5) from (0, 0)
        tensor(0.5000)
    """
    return (first.mean(dim=0) - second.mean(dim=0)).square().sum()
