"""What is measured: pure functions of answers and sizes.

Shares are from 0 to 1, errors are one minus accuracy, divergences are in nats. A value that is not defined is None,
never a made-up 0.
"""

import contextlib
import math
import statistics
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.utils.flop_counter import FlopCounterMode

from kdrun.evaluation.scores import (
    accuracy_reduction_pct,
    distillation_factor,
    distillation_score,
    improvement_pct,
    relative_error,
    size_reduction_pct,
    weak_teacher,
)

__all__ = ["CalibrationBin", "Size", "accuracy", "accuracy_reduction_pct", "agreement", "brier", "calibration_bins",
           "calibration_error", "correlation", "distillation_factor", "distillation_score", "f1", "flops", "half_interval",
           "improvement_pct", "kl_divergence", "nll", "nonzero", "recall", "relative_error", "size",
           "size_reduction_pct", "weak_teacher"]


def half_interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean of independent episodes, by the normal distribution; None for fewer than two.

    Example:
        >>> round(half_interval([1.0, 3.0]), 2)
        1.96
    """
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def accuracy(logits: Tensor, labels: Tensor, top: int = 1) -> float | None:
    """The share of samples whose label is among the `top` largest logits [N, K]; None for `top` above K."""
    if top > logits.shape[1]:
        return None
    best = logits.topk(top, dim=1).indices
    return float((best == labels[:, None]).any(dim=1).double().mean())


def recall(logits: Tensor, labels: Tensor) -> list[float | None]:
    """The share of each class that is found; None for a class without samples."""
    right, classes = logits.argmax(dim=1) == labels, logits.shape[1]
    return [float(right[labels == label].double().mean()) if bool((labels == label).any()) else None
            for label in range(classes)]


def f1(logits: Tensor, labels: Tensor) -> list[float | None]:
    """The F1 score of each class; None for a class neither in the labels nor in the answers."""
    given = logits.argmax(dim=1)
    scores: list[float | None] = []
    for label in range(logits.shape[1]):
        hits = int(((given == label) & (labels == label)).sum())
        involved = int((given == label).sum()) + int((labels == label).sum())
        scores.append(2 * hits / involved if involved else None)
    return scores


def nll(logits: Tensor, labels: Tensor) -> float:
    """The mean negative log-likelihood of the labels."""
    return float(F.cross_entropy(logits.double(), labels))


class CalibrationBin(NamedTuple):
    """The samples to which a network gives about the same confidence; confidence and accuracy are None without samples."""

    samples: int
    confidence: float | None
    accuracy: float | None


def calibration_bins(logits: Tensor, labels: Tensor, bins: int = 15) -> list[CalibrationBin]:
    """Mean confidence and accuracy over equal bins of confidence, lowest first: a reliability diagram (Guo 2017).

    Args:
        logits: [N, K].
        labels: [N].
        bins: how many; bin k of them (from 1) holds confidences above (k - 1) / bins, up to and with k / bins.
    """
    confidence, given = logits.double().softmax(dim=1).max(dim=1)
    right = (given == labels).double()
    # bins are open below and closed above, as in the paper
    places = torch.ceil(confidence * bins).long().clamp(1, bins) - 1
    counts = torch.bincount(places, minlength=bins).tolist()
    sums = [torch.zeros(bins, dtype=torch.float64).index_add_(0, places, values).tolist() for values in (confidence, right)]
    return [CalibrationBin(count, *((sure / count, hits / count) if count else (None, None)))
            for count, sure, hits in zip(counts, *sums, strict=True)]


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """The expected calibration error: how far confidence is from accuracy, over equal bins of confidence (Guo 2017)."""
    return sum(one.samples * abs(one.confidence - one.accuracy) for one in calibration_bins(logits, labels, bins)
               if one.confidence is not None and one.accuracy is not None) / len(labels)


def brier(logits: Tensor, labels: Tensor) -> float:
    """The mean squared distance of the probabilities from the one-hot label, from 0 to 2 (Brier 1950)."""
    wanted = F.one_hot(labels, logits.shape[1])
    return float((logits.double().softmax(dim=1) - wanted).square().sum(dim=1).mean())


def kl_divergence(teacher: Tensor, student: Tensor) -> float:
    """The mean over samples of KL(teacher || student) of logits [N, K] at temperature 1 (Zhu et al. 2024, eq. 8)."""
    wanted, given = teacher.double().log_softmax(dim=1), student.double().log_softmax(dim=1)
    return float(F.kl_div(given, wanted, reduction="batchmean", log_target=True))


def correlation(teacher: Tensor, student: Tensor) -> float | None:
    """Pearson's correlation of all probabilities of two answers (Zhu et al. 2024, eq. 9); None if one is constant."""
    first, second = (logits.double().softmax(dim=1).flatten() for logits in (teacher, student))
    first, second = first - first.mean(), second - second.mean()
    spread = first.norm() * second.norm()
    return float(first @ second / spread) if spread > 1e-12 else None


def agreement(teacher: Tensor, student: Tensor) -> float:
    """The share of samples to which both give the same class."""
    return float((teacher.argmax(dim=1) == student.argmax(dim=1)).double().mean())


class Size(NamedTuple):
    """How large a network is: its parameters, the bytes they are stored in, and the bits.

    Parameters are all that are stored or could be, zeros among them (see `nonzero`). Bytes and bits are what packing takes:
    quantised weights at their bits with whatever is needed to read them, sparse ones by their places where that is less. The
    file of weights that a run writes holds float32 and its statistics, and is larger (`file_bytes` in the results).
    """

    parameters: int
    bytes: int
    bits: int


def size(network: nn.Module) -> Size | None:
    """The size of a network as it is stored: what its own `stored_size` says, or its parameters as they are.

    None for a model whose size is not defined.
    """
    own = getattr(network, "stored_size", None)
    if own is not None:
        return own()
    weights = list(network.parameters())
    stored = sum(weight.numel() * weight.element_size() for weight in weights)
    return Size(sum(weight.numel() for weight in weights), stored, 8 * stored)


def nonzero(network: nn.Module) -> int | None:
    """How many of a network's parameters are not zero, as parametrizations let it see them; None for a model that has none."""
    parts = [part for part in network.modules() if not isinstance(part, ParametrizationList)]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    weights += [getattr(part, name) for part in parts if is_parametrized(part)
                for name, _ in part.get_submodule("parametrizations").named_children()]
    return sum(int(weight.count_nonzero()) for weight in weights) if weights else None


def flops(network: nn.Module, inputs: Any) -> int | None:
    """Floating-point operations for some inputs, in the form and on the device that the network takes them.

    A multiply-add counts as two.

    Attention and LSTMs are counted as the matrix products that they are: the counter does not see inside fused kernels.

    None for a model that has none of those that are counted, as a tree, which only compares.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()  # in training mode a count would move batch statistics, and fail where a map has one pixel
    with FlopCounterMode(display=False) as counter, torch.no_grad(), unfused_attention(), unfused_recurrence(network):
        network(inputs)
    for module, training in modes:
        module.training = training
    return counter.get_total_flops() or None


@contextlib.contextmanager
def unfused_attention() -> Iterator[None]:
    """Let attention run as plain matrix products, also where `nn.MultiheadAttention` has a kernel for evaluation mode."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def unfused_recurrence(network: nn.Module) -> Iterator[None]:
    """Let recurrent layers run as plain matrix products; convolutions have slow kernels there, so only where there are some."""
    with contextlib.ExitStack() as stack:
        if any(isinstance(module, nn.RNNBase) for module in network.modules()):
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", UserWarning)  # of an Intel GPU that is not there
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def place_of(network: nn.Module) -> torch.device:
    """Where a network is; the CPU for what holds nothing."""
    return next((held.device for held in chain(network.parameters(), network.buffers())), torch.device("cpu"))


def finite(value: float | None) -> float | None:
    """The value, or None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None
