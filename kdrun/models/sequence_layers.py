"""Layers on padded sequences: vectors [B, T, C] and a mask [B, T] go in, vectors that are zero where padded come out.

Padding changes nothing: no place sees a padded one, however much of it there is.
"""

import torch
from torch import Tensor, nn

__all__ = ["Recurrence", "SequenceFront", "Window", "as_map", "masked_mean"]


def as_map(places: Tensor) -> Tensor:
    """Places [B, T, C] as a map [B, C, 1, T]."""
    return places.transpose(1, 2)[:, :, None]


def masked_mean(places: Tensor, mask: Tensor) -> Tensor:
    """The mean [B, C] of those places [B, T, C] that the mask [B, T] has; zero where it has none."""
    kept = mask[..., None].to(places.dtype)
    return (places * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


class SequenceFront(nn.Module):
    """From what comes in to a vector a place: token ids are looked up, frames are taken as they are.

    Args:
        embedding: the length of a token's vector.
        vocabulary: how many token ids there are, 0 (padding) included; None for frames.
        features: of a frame; None for token ids.

    Attributes:
        width: the length of a place's vector.
    """

    def __init__(self, *, embedding: int, vocabulary: int | None, features: int | None) -> None:
        super().__init__()
        self.tokens = None if vocabulary is None else nn.Embedding(vocabulary, embedding, padding_idx=0)
        width = embedding if vocabulary is not None else features
        assert width is not None, "sequences are of tokens (vocabulary) or of frames (features)"
        self.width = width

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """From token ids [B, T] or frames [B, T, F] and a mask [B, T] to vectors [B, T, width], zero where padded."""
        places = values if self.tokens is None else self.tokens(values)
        return places.masked_fill(~mask[..., None], 0)


class Recurrence(nn.Module):
    """One layer of long short-term memory (Hochreiter and Schmidhuber 1997) over padded sequences.

    The backward direction reads each sequence reversed within its own length, so that it starts at its last place and not
    in the padding. On a CPU that takes a third of the time of packed sequences, and gives the same answers.

    Args:
        inputs: the length of a place's vector.
        width: of the state of each direction.
        both: whether there is a backward direction.
    """

    def __init__(self, inputs: int, width: int, both: bool) -> None:
        super().__init__()
        self.onward = nn.LSTM(inputs, width, batch_first=True)
        self.backward_ = nn.LSTM(inputs, width, batch_first=True) if both else None

    def forward(self, places: Tensor, mask: Tensor) -> Tensor:
        """The states [B, T, width], or [B, T, 2 width] of both directions, zero where padded.

        Args:
            places: [B, T, inputs].
            mask: [B, T], each row True from the first place to the last.
        """
        states = self.onward(places)[0]
        if self.backward_ is not None:
            place, last = torch.arange(mask.shape[1], device=mask.device), mask.sum(dim=1, keepdim=True) - 1
            order = torch.where(mask, last - place, place)[..., None]  # its own inverse
            reversed_states = self.backward_(places.gather(1, order.expand_as(places)))[0]
            states = torch.cat([states, reversed_states.gather(1, order.expand_as(reversed_states))], dim=2)
        return states.masked_fill(~mask[..., None], 0)


class Window(nn.Module):
    """A linear layer over each place and its neighbours; beyond the ends of a sequence there are zeros.

    Args:
        inputs: the length of a place's vector.
        width: of the answer.
        reach: how many places to either side it sees.
    """

    def __init__(self, inputs: int, width: int, reach: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, width, 2 * reach + 1, padding=reach)

    def forward(self, places: Tensor, mask: Tensor) -> Tensor:
        """From [B, T, inputs], zero where padded, to [B, T, width], likewise."""
        return self.linear(places.transpose(1, 2)).transpose(1, 2).masked_fill(~mask[..., None], 0)
