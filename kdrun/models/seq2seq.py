"""A recurrent encoder and decoder with attention, from sequences of tokens to sequences of symbols."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Layers, Proportion
from kdrun.data.sequences import Sequences
from kdrun.models.output import ModelOutput
from kdrun.models.sequence_layers import Recurrence, SequenceFront, as_map, masked_mean

__all__ = ["Seq2Seq"]

State = tuple[Tensor, ...]


class Seq2Seq(nn.Module):
    """A bidirectional LSTM reads the source, an LSTM with attention writes the target (Luong et al. 2015).

    The scores of the attention are the paper's `general` ones, of the top state of the same step, and the attentional state
    is not fed back: so a whole prefix is read in one pass. The decoder starts from the encoder's last states. In the output
    a place is a target position: the stages are the decoder's layers and then the attentional states, the embedding is the
    mean of the latter over the positions of a sequence.

    Source: Luong, Pham, Manning: Effective approaches to attention-based neural machine translation, EMNLP 2015.

    Args:
        width: units of each layer; half of the encoder's read backwards.
        layers: of the encoder, and of the decoder.
        embedding: numbers for each token.
        dropout: share of the inputs of each layer that is left out in training.
        classes: how many symbols a target has, its end among them.
        vocabulary: how many tokens a source has, padding (0) among them.

    Raises:
        ValueError: the width is odd.
    """

    inputs: ClassVar[str] = "tokens"
    tasks: ClassVar[tuple[str, ...]] = ("translation",)

    def __init__(self, *, width: AtLeastOne, layers: Layers, embedding: AtLeastOne, dropout: Proportion, classes: int,
                 vocabulary: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width is {width}, but half of it reads the source backwards; wanted an even number")
        sizes = [embedding] + [width] * (layers - 1)
        self.source = SequenceFront(embedding=embedding, vocabulary=vocabulary, features=None)
        self.target = nn.Embedding(classes + 2, embedding, padding_idx=0)  # padding, start, the classes
        self.encoder = nn.ModuleList(Recurrence(size, width // 2, both=True) for size in sizes)
        self.bridge = nn.Linear(width, 2 * layers * width)
        self.decoder = nn.ModuleList(nn.LSTM(size, width, batch_first=True) for size in sizes)
        self.keys = nn.Linear(width, width, bias=False)
        self.combine = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Sequences) -> ModelOutput:
        """Answer the next symbol after each prefix token: logits [B, U, K]."""
        assert inputs.prefix is not None
        mask = inputs.prefix > 0
        stem, layers, before, _ = self.read(inputs.prefix, self.encode(inputs))
        top = before.tanh()
        stages = [maps_of(layer, mask) for layer in layers]
        return ModelOutput(self.head(self.dropout(top)), masked_mean(top, mask), (*stages, maps_of(top, mask)),
                           (*stages, maps_of(before, mask)), maps_of(stem, mask), mask=mask)

    def encode(self, inputs: Sequences) -> State:
        """What the decoder needs of B sources: tensors whose first dimension is B."""
        mask, half = inputs.mask, self.keys.in_features // 2
        hidden = self.source(inputs.values, mask)
        for layer in self.encoder:
            hidden = layer(self.dropout(hidden), mask)
        rows, last = torch.arange(len(mask), device=mask.device), mask.sum(dim=1) - 1
        ends = torch.cat([hidden[rows, last, :half], hidden[:, 0, half:]], dim=1)  # each direction's last state
        first = self.bridge(ends).tanh().chunk(2 * len(self.decoder), dim=1)
        return (hidden, self.keys(hidden), mask, *(part.contiguous() for part in first))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits [B, K] of the symbol after these tokens [B] of a prefix, and the state after them."""
        _, _, pre, state = self.read(tokens[:, None], state)
        return self.head(self.dropout(pre[:, 0].tanh())), state

    def read(self, prefix: Tensor, state: State) -> tuple[Tensor, list[Tensor], Tensor, State]:
        """Read on in prefixes [B, U]: (embedded tokens, states of each layer, attentional states before tanh, state)."""
        memory, keys, mask, *recurrent = state
        hidden = stem = self.target(prefix)
        maps, after = [], []
        for layer, h, c in zip(self.decoder, recurrent[::2], recurrent[1::2], strict=True):
            hidden, (h, c) = layer(self.dropout(hidden), (h[None], c[None]))
            maps.append(hidden)
            after += [h[0], c[0]]
        scores = hidden @ keys.transpose(1, 2)
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)  # finite: a source may be empty
        context = scores.softmax(dim=-1) @ memory
        return stem, maps, self.combine(torch.cat([context, hidden], dim=-1)), (memory, keys, mask, *after)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1."""
        layers = list(self.decoder)[:stage]
        ends = [self.keys, self.combine] if stage > len(self.decoder) else []
        return [self.source, self.target, *self.encoder, self.bridge, *layers, *ends]


def maps_of(places: Tensor, mask: Tensor) -> Tensor:
    """Places [B, L, C] as a map [B, C, 1, L], zero where the mask [B, L] is false."""
    return as_map(places.masked_fill(~mask[..., None], 0))
