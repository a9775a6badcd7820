"""A transformer encoder and decoder, from sequences of tokens to sequences of symbols."""

import math
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, Layers, Proportion
from kdrun.data.sequences import Sequences
from kdrun.models.output import ModelOutput
from kdrun.models.seq2seq import maps_of
from kdrun.models.sequence_layers import SequenceFront, masked_mean
from kdrun.models.transformer import Block, Convolution, sinusoids

__all__ = ["TransformerSeq2Seq"]

State = tuple[Tensor, ...]


class TransformerSeq2Seq(nn.Module):
    """An encoder that sees the whole source and a decoder that sees it and what it has written (Vaswani et al. 2017).

    Each layer normalises its input (Xiong et al. 2020); positions are sinusoids, so any length can be read. A residual
    convolution over neighbours comes before the encoder: characters say little one by one. In the output a place is a target
    position: the stages are the decoder's layers, the embedding is the mean of the last over the positions of a sequence,
    and the attentions are those of the decoder's positions to one another.

    Sources: Vaswani et al.: Attention is all you need, NeurIPS 2017. Xiong et al.: On layer normalization in the
    transformer architecture, ICML 2020.

    Args:
        width: numbers for each position.
        layers: of the encoder, and of the decoder.
        heads: of each attention; divides the width.
        expansion: how many times wider the feed-forward parts are.
        kernel: how many places the convolution sees, odd; 0 for none.
        dropout: share of what each part adds that is left out in training.
        classes: how many symbols a target has, its end among them.
        vocabulary: how many tokens a source has, padding (0) among them.

    Raises:
        ValueError: the heads do not divide the width, which has to be even, or the kernel is even.
    """

    inputs: ClassVar[str] = "tokens"
    tasks: ClassVar[tuple[str, ...]] = ("translation",)

    def __init__(self, *, width: AtLeastOne, layers: Layers, heads: AtLeastOne, expansion: AtLeastOne, kernel: Count,
                 dropout: Proportion, classes: int, vocabulary: int) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise ValueError(f"width is {width}; wanted an even number that heads={heads} divides")
        if kernel and kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; wanted an odd number, or 0 for no convolution")
        hidden = expansion * width
        self.width = width
        self.source = SequenceFront(embedding=width, vocabulary=vocabulary, features=None)
        self.target = nn.Embedding(classes + 2, width, padding_idx=0)  # padding, start, the classes
        self.convolution = Convolution(width, kernel) if kernel else None
        self.encoder = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderBlock(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Sequences) -> ModelOutput:
        """Answer the next symbol after each prefix token: logits [B, U, K]."""
        assert inputs.prefix is not None
        mask = inputs.prefix > 0
        source_mask, *caches = self.encode(inputs)
        stem, maps, attentions, _ = self.read(inputs.prefix, source_mask, caches)
        top = self.norm(maps[-1])
        attentions = [one * mask[:, None, :, None] for one in attentions]
        stages = tuple(maps_of(layer, mask) for layer in maps)
        return ModelOutput(self.head(top), masked_mean(top, mask), stages, stages, maps_of(stem, mask),
                           tuple(attentions), mask)

    def encode(self, inputs: Sequences) -> State:
        """What the decoder needs of B sources: tensors whose first dimension is B."""
        mask = inputs.mask
        hidden = self.placed(self.source(inputs.values, mask), 0)
        if self.convolution is not None:
            hidden = self.convolution(hidden, mask)
        for block in self.encoder:
            hidden, _ = block(hidden, mask)
        hidden = self.encoder_norm(hidden)
        blocks = cast("list[DecoderBlock]", self.decoder)
        return (mask, *(cache for block in blocks for cache in (*block.past.project(hidden[:, :0]),
                                                                *block.across.project(hidden))))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits [B, K] of the symbol after these tokens [B] of a prefix, and the state after them."""
        mask, *caches = state
        _, maps, _, caches = self.read(tokens[:, None], mask, caches)
        return self.head(self.norm(maps[-1][:, 0])), (mask, *caches)

    def read(self, prefix: Tensor, mask: Tensor, caches: list[Tensor]
             ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Read on in prefixes [B, U]: (embedded tokens, states of each layer, attentions to the prefix, caches).

        A layer's caches are the keys and values [B, heads, L, C] of the prefix so far, then those of the source.
        """
        before = caches[0].shape[2]
        hidden = stem = self.placed(self.target(prefix), before)
        places = torch.arange(before + prefix.shape[1], device=prefix.device)
        allowed = places <= places[before:, None]  # [U, L]: padding comes last, so nothing in a prefix attends to it
        maps, attentions, after = [], [], []
        for number, block in enumerate(self.decoder):
            hidden, attention, kept = block(hidden, allowed, mask[:, None, None], caches[4 * number:4 * number + 4])
            maps.append(hidden)
            attentions.append(attention)
            after += kept
        return stem, maps, attentions, after

    def placed(self, tokens: Tensor, before: int) -> Tensor:
        """Embedded tokens [B, L, C] with their places, of which so many came before."""
        encoding = sinusoids(before + tokens.shape[1], self.width, tokens.device)[before:]
        return self.dropout(tokens + encoding.to(tokens.dtype))

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1."""
        before = [self.source, self.target, *([] if self.convolution is None else [self.convolution]), *self.encoder]
        return [*before, self.encoder_norm, *list(self.decoder)[:stage]]


class Attention(nn.Module):
    """Scaled dot-product attention of several heads, whose keys and values can be kept from step to step."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # one would move all scores of a query alike

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values [B, heads, L, C / heads] of states [B, L, C]."""
        return self.split(self.key(states)), self.split(self.value(states))

    def split(self, states: Tensor) -> Tensor:
        """The heads of states [B, L, C]."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, states: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """What states [B, U, C] read where it is allowed: ([B, U, C], probabilities [B, heads, U, L])."""
        scores = self.split(self.query(states)) @ keys.transpose(2, 3) / math.sqrt(keys.shape[-1])
        probabilities = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return self.out((probabilities @ values).transpose(1, 2).flatten(2)), probabilities


class DecoderBlock(nn.Module):
    """Attention to the prefix, attention to the source and a feed-forward part, each after a LayerNorm beside a skip.

    Args:
        width: of the places' vectors.
        heads: of each attention.
        hidden: width of the feed-forward part.
        dropout: of what each part adds.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.before_past, self.before_across, self.before_feedforward = (nn.LayerNorm(width) for _ in range(3))
        self.past, self.across = Attention(width, heads), Attention(width, heads)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, allowed: Tensor, mask: Tensor, caches: list[Tensor]
                ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """From states [B, U, C] to the next ones, the attention [B, heads, U, L] to the prefix, and the caches after them."""
        keys, values, *source = caches
        normed = self.before_past(hidden)
        own = self.past.project(normed)
        keys, values = torch.cat([keys, own[0]], dim=2), torch.cat([values, own[1]], dim=2)
        added, attention = self.past(normed, keys, values, allowed)
        hidden = hidden + self.dropout(added)
        hidden = hidden + self.dropout(self.across(self.before_across(hidden), *source, mask)[0])
        added = self.contract(F.gelu(self.expand(self.before_feedforward(hidden))))
        return hidden + self.dropout(added), attention, [keys, values, *source]
