"""A sequence of symbols for each sequence of tokens, written one after the other."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Sequences
from kdrun.evaluation.metrics import finite
from kdrun.evaluation.sequence_metrics import clipped_accuracy, sequence_accuracy, total_edits
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import InputKind, Task
from kdrun.tasks.generation import END, NOTHING, START, beam_search, greedy, tokens_of

__all__ = ["Translation", "prefixes"]


class Translation(Task):
    """What an encoder and decoder write about a source.

    In training the decoder is given the right symbols before each position (teacher forcing), teacher and student the
    same ones: a row is a position of the target, its end included. In evaluation it writes by itself: greedily, or by beam
    search where the reader asks for one. Its sequence counts as right if it is one of those that are right for its source.

    Labels of samples are the classes [N, U] of the target with its end (0), and below 0 after it; the field `references`
    [N, R, U] has all right targets in that form. The reader's info has `length`, `target_length` (U) and `vocabulary`;
    `beam` (1: greedy) and `length_exponent` may be there.
    """

    key = "translation"
    headline = "symbol_accuracy"
    measured = ("symbol_accuracy", "sequence_accuracy", "error_rate", "token_accuracy", "perplexity", "nll")
    watched = ("symbol_accuracy", "nll")
    inputs: ClassVar[InputKind] = "tokens"
    keeps: ClassVar[tuple[str, ...]] = ("heads",)

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.beam, self.length_exponent = int(self.info.get("beam", 1)), float(self.info.get("length_exponent", 0.0))

    def example(self, count: int, device: torch.device | str = "cpu") -> Sequences:
        """Sources and prefixes of full length, without padding."""
        values = torch.ones(count, self.info["length"], dtype=torch.int64, device=device)
        prefix = torch.full((count, self.info["target_length"]), START, device=device)
        return Sequences(values, values > 0, prefix)

    def expected(self, count: int) -> tuple[int | None, ...]:
        """The shape of a network's logits for so many samples."""
        return count, self.info["target_length"], self.outputs

    def problems(self, source: Source) -> list[str]:
        """What makes pairs unfit, a line each."""
        found = source.problems()
        return found or [f"the {name} labels go up to {int(part.labels.max())}, but there are {len(self.classes)} classes"
                         for name, part in source.parts.items()
                         if int(part.labels.max()) >= len(self.classes)]

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Sources with the prefixes of their targets; a row for each position that has a label."""
        labels = samples.labels[rows]
        places = (labels >= 0).flatten().nonzero()[:, 0]
        return Batch(Sequences(inputs, inputs > 0, prefixes(labels)), labels.flatten()[places], rows, places=places)

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """The rows [M, K] of logits [B, U, K]."""
        assert batch.places is not None
        return logits.flatten(0, 1)[batch.places]

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """The mean cross-entropy of the rows; 0 without rows."""
        total = F.cross_entropy(output.logits, batch.labels, label_smoothing=smoothing, reduction="sum")
        return total / max(1, len(batch.labels))

    def predict(self, network: nn.Module, batch: Batch) -> ModelOutput:
        """The logits of the positions of the target, and in `heads` what is written: classes [B, 2 T + 10], then NOTHING."""
        assert isinstance(batch.x, Sequences)
        writer: Any = getattr(network, "network", network)
        hypotheses = greedy(writer, batch.x) if self.beam == 1 else \
            beam_search(writer, batch.x, self.beam, self.length_exponent)
        symbols = hypotheses.symbols[:, 0]
        symbols = F.pad(symbols, (0, 2 * self.info["length"] + 10 - symbols.shape[1]), value=NOTHING)
        return network(batch.x).replace(heads={"symbols": symbols})

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """How near what was written is to what is right, and how likely what is right was.

        The error rate is the number of edits over the number of symbols of the nearest right targets; symbol accuracy is 1
        minus it, and 0 where it is above 1. Token accuracy, perplexity and negative log-likelihood are of the next symbol
        after a right prefix, the end included.
        """
        references = [[symbols_in(one) for one in several if one[0] >= 0] for several in samples.fields["references"].tolist()]
        written = [symbols_in(one) for one in answers.heads["symbols"].tolist()]
        edits = total_edits(references, written)
        logits, labels = self.split_rows(answers, samples)
        assert labels is not None
        nll = float(F.cross_entropy(logits.double(), labels))
        return {"symbol_accuracy": clipped_accuracy(edits), "sequence_accuracy": sequence_accuracy(references, written),
                "error_rate": edits.rate, "token_accuracy": float((logits.argmax(dim=1) == labels).double().mean()),
                "perplexity": finite(math.exp(min(nll, 700.0))), "nll": finite(nll)}

    def decode(self, output: ModelOutput) -> list[list[str]]:
        """The symbols of every sequence that is written."""
        return [[self.classes[symbol] for symbol in symbols_in(one)] for one in output.heads["symbols"].tolist()]


def prefixes(labels: Tensor) -> Tensor:
    """The prefix tokens [B, U] that a decoder is given for targets [B, U]: the start, then all symbols but the last."""
    started = torch.cat([torch.full_like(labels[:, :1], START), tokens_of(labels[:, :-1])], dim=1)
    return torch.where(labels < 0, 0, started)


def symbols_in(classes: list[int]) -> list[int]:
    """The classes of a target or a hypothesis, without its end and what comes after it."""
    return [one for one in classes if one > END]
