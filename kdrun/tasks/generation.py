"""Writing sequences symbol by symbol, with any network that reads a source once and then answers prefix by prefix.

Symbols are the classes of the answer, of which 0 ends a sequence. A network is given them as tokens: 0 is padding, 1 the start,
and class c is token c + 2; so neither padding nor the start can be written.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kdrun.data.sequences import Sequences

__all__ = ["END", "NOTHING", "START", "EncoderDecoder", "Hypotheses", "beam_search", "greedy", "length_penalty",
           "longest", "tokens_of"]

END = 0        # the class that ends a sequence
START = 1      # the token that begins a prefix
NOTHING = -1   # in place of a class, after the end of a sequence

State = tuple[Tensor, ...]


class EncoderDecoder(Protocol):
    """A network that writes a sequence about a source."""

    def encode(self, inputs: Sequences) -> State:
        """What the decoder needs of B sources: tensors whose first dimension is B."""
        ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits [B, K] of the class after these tokens [B] of a prefix, and the state after them."""
        ...


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Up to N sequences for each of B sources, the best first; all finished ones come before all others.

    Attributes:
        symbols: [B, N, U] int64, classes without the end, then NOTHING.
        log_probs: [B, N] float32, of the sequence, its end included; -inf where a source has fewer sequences.
        scores: [B, N], by which they are ranked: `log_probs` over the length penalty.
        finished: [B, N] bool: whether the sequence has come to its end.
    """

    symbols: Tensor
    log_probs: Tensor
    scores: Tensor
    finished: Tensor


def tokens_of(classes: Tensor) -> Tensor:
    """The tokens that stand for classes in a prefix; padding for what is no class (below 0)."""
    return torch.where(classes < 0, 0, classes + 2)


def longest(mask: Tensor) -> Tensor:
    """How many symbols [B] to write at most, the end included, for sources of this mask [B, T]: 2 T + 10 of its own T."""
    return 2 * mask.sum(dim=1) + 10


def length_penalty(length: Tensor, exponent: float) -> Tensor:
    """What log-probabilities of sequences of these lengths, their end included, are divided by: ((5 + length) / 6)^exponent.

    Source: Wu et al.: Google's neural machine translation system, 2016, equation 14.
    """
    return ((5 + length) / 6) ** exponent


@torch.no_grad()
def greedy(network: EncoderDecoder, inputs: Sequences, limit: Tensor | None = None) -> Hypotheses:
    """The likeliest symbol, one after the other; of equally likely ones the first class.

    Args:
        network: in evaluation mode.
        inputs: B sources.
        limit: how many symbols [B] to write at most, the end included; None: `longest`.

    Returns:
        one hypothesis a source.
    """
    limit = longest(inputs.mask) if limit is None else limit
    state = network.encode(inputs)
    tokens = torch.full((len(inputs),), START, device=limit.device)
    log_probs = torch.zeros(len(inputs), device=limit.device)
    finished, written = torch.zeros_like(tokens, dtype=torch.bool), []
    for length in range(int(limit.max())):
        live = ~finished & (length < limit)
        if not bool(live.any()):
            break
        logits, state = network.step(tokens, state)
        best, symbol = logits.float().log_softmax(dim=1).max(dim=1)
        log_probs = torch.where(live, log_probs + best, log_probs)
        written.append(torch.where(live & (symbol != END), symbol, NOTHING))
        finished = finished | (live & (symbol == END))
        tokens = tokens_of(symbol)
    symbols = torch.stack(written, dim=1) if written else tokens.new_zeros(len(inputs), 0)
    return Hypotheses(symbols[:, None], log_probs[:, None], log_probs[:, None], finished[:, None])


@torch.no_grad()
def beam_search(network: EncoderDecoder, inputs: Sequences, width: int, exponent: float = 0.0,
                limit: Tensor | None = None) -> Hypotheses:
    """The likeliest sequences that are found by extending a few at a time.

    Each step extends every live hypothesis by every class and keeps the best by log-probability: as many as `width` has
    places that no finished hypothesis holds, for those keep theirs. Of equals the one of the better hypothesis, then the
    first class, is kept. A source is done when all its places are finished, or its limit is reached.

    Args:
        network: in evaluation mode.
        inputs: B sources.
        width: how many hypotheses a source has; 1 is `greedy`.
        exponent: of the length penalty, by which finished hypotheses are ranked; 0 for pure probability.
        limit: how many symbols [B] to write at most, the end included; None: `longest`.

    Returns:
        `width` hypotheses a source.
    """
    limit, count = longest(inputs.mask) if limit is None else limit, len(inputs)
    device, steps = limit.device, int(limit.max())
    state = tuple(part.repeat_interleave(width, dim=0) for part in network.encode(inputs))
    live = (torch.arange(width, device=device) == 0).expand(count, width)  # all would begin alike, so one of them alone does
    log_probs = torch.where(live, 0.0, -torch.inf)
    finished, symbols = torch.zeros_like(live), torch.full((count, width, steps), NOTHING, device=device)
    tokens = torch.full((count * width,), START, device=device)
    first_row = width * torch.arange(count, device=device)[:, None]
    for length in range(steps):
        live = live & (length < limit)[:, None]
        if not bool(live.any()):
            break
        logits, state = network.step(tokens, state)
        extended = log_probs[..., None] + logits.float().log_softmax(dim=1).unflatten(0, (count, width))
        classes = extended.shape[2]
        extended = extended.masked_fill(~live[..., None], -torch.inf)
        kept = torch.where(~live & log_probs.isfinite(), torch.inf, -torch.inf)  # these hold their places
        order = torch.cat([kept, extended.flatten(1)], dim=1)
        key, chosen = (part[:, :width] for part in order.sort(dim=1, descending=True, stable=True))
        is_new, place = chosen >= width, (chosen - width).clamp_min(0)
        parent, symbol = torch.where(is_new, place // classes, chosen), torch.where(is_new, place % classes, NOTHING)
        log_probs = torch.where(key == torch.inf, log_probs.gather(1, parent), key)  # -inf: there is no more to extend
        finished = torch.where(is_new, symbol == END, finished.gather(1, parent))
        live = is_new & ~finished & log_probs.isfinite()
        symbols = symbols.gather(1, parent[..., None].expand_as(symbols))
        symbols[:, :, length] = torch.where(live, symbol, NOTHING)
        state = tuple(part[(first_row + parent).flatten()] for part in state)
        tokens = tokens_of(symbol.flatten())
    written = (symbols != NOTHING).sum(dim=2)
    scores = log_probs / length_penalty(written + finished, exponent)
    by_score = scores.sort(dim=1, descending=True, stable=True).indices
    rank = by_score.gather(1, finished.gather(1, by_score).long().sort(dim=1, descending=True, stable=True).indices)
    symbols = symbols.gather(1, rank[..., None].expand_as(symbols))
    return Hypotheses(symbols, *(part.gather(1, rank) for part in (log_probs, scores, finished)))
