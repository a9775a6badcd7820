"""A transformer encoder for sequences, with a residual convolution over neighbouring places before it."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, Layers, Proportion
from kdrun.data.sequences import Sequences
from kdrun.models.output import ModelOutput
from kdrun.models.sequence_layers import SequenceFront, as_map, masked_mean

__all__ = ["Pooling", "Transformer", "sinusoids"]

Pooling = Literal["mean", "first"]


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """The position encoding [length, width] of Vaswani et al. 2017, section 3.5: sines first, then cosines."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000) / width))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


class Convolution(nn.Module):
    """A residual convolution over the places: x + gelu(conv(norm(x))), which sees padding as zeros.

    Args:
        width: of the places' vectors.
        kernel: how many places it sees; odd.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """From [B, L, C] to the same shape."""
        own = self.norm(tokens) * mask[..., None]  # the norm's bias would make something of padding
        return tokens + F.gelu(self.conv(own.transpose(1, 2)).transpose(1, 2))


class Block(nn.Module):
    """Self-attention and a feed-forward part, each after a LayerNorm and beside a skip connection (Xiong et al. 2020).

    Args:
        width: of the places' vectors.
        heads: of the attention.
        hidden: width of the feed-forward part.
        dropout: of the attention's and the feed-forward part's results.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """From [B, L, C] to the same shape and the attention's probabilities [B, heads, L, L], both zero where padded."""
        query, key, value = self.qkv(self.before_attention(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)  # -inf is NaN where all are masked
        attention = scores.softmax(dim=-1) * mask[:, None, :, None]
        tokens = tokens + self.dropout(self.out((attention @ value).transpose(1, 2).flatten(2)))
        tokens = tokens + self.dropout(self.contract(F.gelu(self.expand(self.before_feedforward(tokens)))))
        return tokens.masked_fill(~mask[..., None], 0), attention


class Transformer(nn.Module):
    """A transformer encoder (Vaswani et al. 2017) that reads token ids or frames, and answers once or at every place.

    A residual convolution before the encoder lets it see character n-grams at once, without which it needs far more
    layers on short words. Normalisation is by place alone, attention has a mask and the convolution sees padding as
    zeros, so padding changes nothing. The stages are the states after each block as maps [B, C, 1, L], the stem the state
    before the first; they have no activation of their own, so `preacts` are the same tensors.

    Args:
        width: of the places' vectors; a multiple of the heads.
        depth: how many blocks.
        heads: of each block's attention.
        expansion: how many times wider the feed-forward parts are.
        kernel: how many places the convolution sees, odd; 0 for none.
        dropout: in training, of what each part adds.
        pooling: what the embedding is: the mean over the places that count, or the state of the first (<cls>).
        classes: how many outputs an answer has.
        per_place: whether there is an answer at every place, or one a sample.
        vocabulary: how many token ids there are, padding included; None where the inputs are frames.
        features: of a frame; None where the inputs are tokens.

    Raises:
        ValueError: the width is no multiple of the heads, or the kernel is even.
    """

    inputs: ClassVar[tuple[str, ...]] = ("tokens", "frames")
    tasks: ClassVar[tuple[str, ...]] = ("classification", "tagging", "transcription")

    def __init__(self, *, width: AtLeastOne, depth: Layers, heads: AtLeastOne, expansion: AtLeastOne, kernel: Count,
                 dropout: Proportion, pooling: Pooling, classes: int, per_place: bool = False, vocabulary: int | None = None,
                 features: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width is {width}, but has to be a multiple of the {heads} heads")
        if kernel and kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; wanted an odd number, or 0 for no convolution")
        self.pooling, self.per_place = pooling, per_place
        self.front = SequenceFront(embedding=width, vocabulary=vocabulary, features=features)
        self.projection = nn.Identity() if vocabulary is not None else nn.Linear(self.front.width, width)
        self.convolution = Convolution(width, kernel) if kernel else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, expansion * width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Sequences) -> ModelOutput:
        """Answer sequences: logits [B, K], or [B, L, K] with an answer at every place."""
        mask = inputs.mask
        tokens = self.projection(self.front(inputs.values, mask))
        tokens = self.dropout(tokens + sinusoids(tokens.shape[1], tokens.shape[2], tokens.device).to(tokens.dtype))
        if self.convolution is not None:
            tokens = self.convolution(tokens, mask)
        tokens = tokens.masked_fill(~mask[..., None], 0)
        stem, stages, attentions = as_map(tokens), [], []
        for block in self.blocks:
            tokens, attention = block(tokens, mask)
            stages.append(as_map(tokens))
            attentions.append(attention)
        states = self.norm(tokens)
        embedding = masked_mean(states, mask) if self.pooling == "mean" else states[:, 0]
        logits = self.head(states if self.per_place else embedding)
        return ModelOutput(logits, embedding, tuple(stages), tuple(stages), stem, tuple(attentions), mask)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1."""
        parts = [self.front, self.projection, self.convolution, *list(self.blocks)[:stage]]
        return [part for part in parts if part is not None]
