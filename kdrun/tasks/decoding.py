"""From the answers of a CTC network (Graves et al. 2006) to the sequences that it reads.

Every frame has a distribution over the blank and the symbols. A path names one of them for each frame; a sequence is
read off a path by merging equal neighbours and then dropping blanks, so its probability is the sum over its paths.
"""

import math
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Reading", "ctc_beam", "ctc_greedy", "ctc_log_probability", "ctc_nbest"]


class Reading(NamedTuple):
    """A sequence that was read from frames.

    Attributes:
        symbols: without blanks.
        log_probability: its natural logarithm.
    """

    symbols: tuple[int, ...]
    log_probability: float


def ctc_greedy(logits: Tensor, lengths: Tensor, blank: int = 0) -> list[list[int]]:
    """The sequence of each sample's best path: the largest answer of every frame, merged, without blanks.

    Args:
        logits: [B, T, K].
        lengths: the frames [B] that count.
        blank: its number among the K.
    """
    return [[symbol for symbol, _ in groupby(path[:length]) if symbol != blank]
            for path, length in zip(logits.argmax(dim=2).tolist(), lengths.tolist(), strict=True)]


def ctc_beam(log_probs: Tensor, width: int, blank: int = 0) -> list[Reading]:
    """The likeliest sequences of one sample by prefix beam search, best first (Hannun et al. 2014, without a language model).

    The probabilities are lower bounds: paths that left the beam are not in them. They are exact where the beam holds
    every prefix. Equally likely prefixes stay in the order of their symbols.

    Args:
        log_probs: [T, K], normalised, of the frames that count.
        width: how many prefixes are kept after each frame.
        blank: its number among the K.
    """
    beam: _Beam = {(): (0.0, -math.inf)}
    for frame in log_probs.double().tolist():
        longer: _Beam = {}
        for prefix, (in_blank, in_symbol) in beam.items():
            whole, last = _log_sum(in_blank, in_symbol), prefix[-1] if prefix else blank
            _add(longer, prefix, whole + frame[blank], in_symbol + frame[last])
            for symbol, log_prob in enumerate(frame):
                if symbol != blank:  # one that repeats the last symbol is a new one only after a blank
                    _add(longer, (*prefix, symbol), -math.inf, (in_blank if symbol == last else whole) + log_prob)
        beam = dict(sorted(longer.items(), key=lambda entry: (-_log_sum(*entry[1]), entry[0]))[:width])
    return [Reading(prefix, _log_sum(*ends)) for prefix, ends in beam.items()]


def ctc_log_probability(log_probs: Tensor, length: int, sequences: Iterable[tuple[int, ...]], blank: int = 0) -> Tensor:
    """The exact log-probability [N] of each of N sequences given one sample, over all their paths; -inf for impossible ones.

    Args:
        log_probs: [T, K], normalised.
        length: how many of the frames count.
        sequences: N of them.
        blank: its number among the K.
    """
    targets = [torch.tensor(symbols, dtype=torch.int64) for symbols in sequences]
    count = len(targets)
    return -F.ctc_loss(log_probs[:, None].expand(-1, count, -1), torch.cat(targets).to(log_probs.device),
                       torch.full((count,), length), torch.tensor([len(one) for one in targets]), blank, "none")


def ctc_nbest(log_probs: Tensor, count: int, width: int, blank: int = 0) -> list[Reading]:
    """The `count` likeliest sequences that a beam finds in one sample, best first, each with its exact log-probability.

    Args:
        log_probs: [T, K], normalised, of the frames that count.
        count: how many sequences at most; fewer where the beam holds fewer possible ones.
        width: of the beam.
        blank: its number among the K.
    """
    found = [reading.symbols for reading in ctc_beam(log_probs, width, blank)]
    exact = ctc_log_probability(log_probs.double(), len(log_probs), found, blank).tolist()
    readings = [Reading(*pair) for pair in zip(found, exact, strict=True) if pair[1] > -math.inf]
    return sorted(readings, key=lambda reading: (-reading.log_probability, reading.symbols))[:count]


_Beam = dict[tuple[int, ...], tuple[float, float]]
"""The log-probability of each prefix, over its paths that end in a blank and over those that end in its last symbol."""


def _add(beam: _Beam, prefix: tuple[int, ...], in_blank: float, in_symbol: float) -> None:
    """Add paths to a prefix, where they are possible."""
    if prefix in beam:
        beam[prefix] = _log_sum(beam[prefix][0], in_blank), _log_sum(beam[prefix][1], in_symbol)
    elif max(in_blank, in_symbol) > -math.inf:
        beam[prefix] = in_blank, in_symbol


def _log_sum(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    if first < second:
        first, second = second, first
    return first if second == -math.inf else first + math.log1p(math.exp(second - first))
