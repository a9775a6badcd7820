"""Networks that read a sequence step by step, or through a window: LSTMs of one and of both directions, and `FramesMLP`.

They read token ids or frames, and answer once per place (tagging, transcription) or once per sequence (classification).
Padding changes nothing: no place sees a padded one, and padded places are zero in every map.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from kdrun.config.constraints import AtLeastOne, Count, Proportion
from kdrun.data.sequences import Sequences
from kdrun.models.output import ModelOutput
from kdrun.models.sequence_layers import Recurrence, SequenceFront, Window, as_map, masked_mean

__all__ = ["LSTM", "BiLSTM", "FramesMLP", "SequenceNet"]

SEQUENCE_TASKS = ("classification", "tagging", "transcription")


class SequenceNet(nn.Module):
    """The form of a network on sequences: a front, layers that each are a stage, and a linear classifier.

    Its embedding is the mean of the last stage over the places that are not padding.

    Args:
        front: from what comes in to vectors.
        layers: modules from vectors [B, T, C] and a mask [B, T] to the next ones, before their activation.
        width: of the last layer's vectors.
        dropout: the share of each layer's inputs that is dropped in training, but for the first; the classifier's too.
        rectified: whether a layer is followed by a ReLU; or else it has its activation inside, as an LSTM has.
        classes: outputs of the classifier.
        per_place: whether it answers once per place, or once per sequence.
    """

    inputs: ClassVar[tuple[str, ...]] = ("tokens", "frames")
    tasks: ClassVar[tuple[str, ...]] = SEQUENCE_TASKS

    def __init__(self, front: SequenceFront, layers: list[nn.Module], width: int, *, dropout: float, rectified: bool,
                 classes: int, per_place: bool) -> None:
        super().__init__()
        self.front, self.layers, self.head = front, nn.ModuleList(layers), nn.Linear(width, classes)
        self.dropout, self.rectified, self.per_place = nn.Dropout(dropout), rectified, per_place

    def forward(self, inputs: Sequences) -> ModelOutput:
        """Answer sequences [B, T]: logits [B, T, K] or [B, K]."""
        places = self.front(inputs.values, inputs.mask)
        stem, stages, preacts = places, [], []
        for number, layer in enumerate(self.layers):
            before = layer(self.dropout(places) if number else places, inputs.mask)
            places = F.relu(before) if self.rectified else before
            preacts.append(as_map(before))
            stages.append(as_map(places))
        embedding = masked_mean(places, inputs.mask)
        logits = self.head(self.dropout(places if self.per_place else embedding))
        return ModelOutput(logits, embedding, tuple(stages), tuple(preacts), as_map(stem), mask=inputs.mask)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1: what a hint at that stage trains."""
        return [self.front, *self.layers[:stage]]


class LSTM(SequenceNet):
    """Layers of LSTM that read from the first place to the last: what is yet to come is not known at any place.

    Args:
        width: of the states.
        layers: how many.
        embedding: the length of a token's vector; frames need none.
        dropout: the share that is dropped between the layers and before the classifier.
        classes: outputs of the classifier.
        per_place: whether it answers once per place, or once per sequence.
        vocabulary: how many token ids there are, where sequences are of tokens.
        features: of a frame, where they are of frames.
    """

    both: ClassVar[bool] = False

    def __init__(self, *, width: AtLeastOne, layers: AtLeastOne, embedding: AtLeastOne, dropout: Proportion, classes: int,
                 per_place: bool, vocabulary: int | None = None, features: int | None = None) -> None:
        front, states = SequenceFront(embedding=embedding, vocabulary=vocabulary, features=features), width * (1 + self.both)
        parts: list[nn.Module] = [Recurrence(states if number else front.width, width, self.both) for number in range(layers)]
        super().__init__(front, parts, states, dropout=dropout, rectified=False, classes=classes, per_place=per_place)


class BiLSTM(LSTM):
    """Layers of LSTM in both directions: every place knows the whole sequence. `width` is that of each direction."""

    both: ClassVar[bool] = True


class FramesMLP(SequenceNet):
    """A multilayer perceptron that sees each place with its neighbours, the same at every place.

    Args:
        widths: of its layers; the first sees the window.
        reach: how many places to either side that is.
        embedding: the length of a token's vector; frames need none.
        dropout: the share that is dropped between the layers and before the classifier.
        classes: outputs of the classifier.
        per_place: whether it answers once per place, or once per sequence.
        vocabulary: how many token ids there are, where sequences are of tokens.
        features: of a frame, where they are of frames.
    """

    def __init__(self, *, widths: list[AtLeastOne], reach: Count, embedding: AtLeastOne, dropout: Proportion, classes: int,
                 per_place: bool, vocabulary: int | None = None, features: int | None = None) -> None:
        if not widths:
            raise ValueError("widths must name at least one layer")
        front = SequenceFront(embedding=embedding, vocabulary=vocabulary, features=features)
        parts: list[nn.Module] = [Window(before, width, 0 if number else reach)
                                  for number, (before, width) in enumerate(zip([front.width, *widths], widths, strict=False))]
        super().__init__(front, parts, widths[-1], dropout=dropout, rectified=True, classes=classes, per_place=per_place)
