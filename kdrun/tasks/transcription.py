"""The symbols that a sequence shows, in their order, but not where: connectionist temporal classification."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Sequences
from kdrun.evaluation.sequence_metrics import clipped_accuracy, sequence_accuracy, total_edits
from kdrun.models.output import ModelOutput
from kdrun.tasks.decoding import ctc_greedy
from kdrun.tasks.frames import FrameTask, length_problems

__all__ = ["BLANK", "Transcription", "ctc_loss", "frames_needed"]

BLANK = 0
"""The number of the blank among the outputs; symbol k of the classes is output k + 1."""


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The mean over samples of -log p(targets) (Graves et al. 2006), a scalar.

    PyTorch's own mean divides each sample's loss by the length of its target first, so that a symbol of a short sequence
    weighs more than one of a long sequence; this one does not.

    Args:
        logits: [B, T, K], with the blank first.
        lengths: of the inputs [B].
        targets: [B, U], from 1; whatever where there are no more.
        target_lengths: [B].
    """
    log_probs = logits.float().log_softmax(dim=2).transpose(0, 1)
    return F.ctc_loss(log_probs, targets, lengths, target_lengths, BLANK, reduction="sum") / max(len(logits), 1)


def frames_needed(targets: Tensor) -> Tensor:
    """How many frames each target of [N, U] needs at least: one a symbol, and a blank between equal neighbours."""
    return (targets != BLANK).sum(dim=1) + ((targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != BLANK)).sum(dim=1)


class Transcription(FrameTask):
    """A sequence of symbols for a longer sequence of frames, without an alignment (CTC).

    The labels of samples are [N, U]: symbol k as k + 1, and 0 where there are no more. Rows are the valid frames, over the
    blank and the symbols; they have no labels, as nobody knows which frame shows what.
    """

    key = "transcription"
    headline = "symbol_accuracy"
    measured = ("symbol_accuracy", "error_rate", "sequence_accuracy", "insertions", "deletions", "substitutions")
    watched = ("symbol_accuracy", "sequence_accuracy")
    row_labels: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """How many logits a row has: the blank, and a symbol each."""
        return len(self.classes) + 1

    @property
    def row_names(self) -> tuple[str, ...]:
        """The name of each logit of a row."""
        return ("blank", *self.classes)

    def problems(self, source: Source) -> list[str]:
        """What makes sequences and their transcriptions unfit."""
        if found := source.problems() or length_problems(source):
            return found
        for name, part in source.parts.items():
            targets = part.labels
            if targets.dtype != torch.int64 or targets.ndim != 2:
                found.append(f"the {name} labels are {targets.dtype} of the shape {list(targets.shape)}; expected "
                             "int64 of [N, U]")
            elif int(targets.min()) < 0 or int(targets.max()) > len(self.classes):
                found.append(f"the {name} labels run from {int(targets.min())} to {int(targets.max())}; expected 1 to "
                             f"{len(self.classes)}, and 0 where there are no more")
            elif bool(((targets[:, :-1] == BLANK) & (targets[:, 1:] != BLANK)).any()):
                found.append(f"the {name} labels have symbols after a 0, which is for their end")
            elif short := int((frames_needed(targets) > part.fields["lengths"]).sum()):
                found.append(f"{short} of the {len(part)} {name} samples have fewer frames than their symbols need (one each, "
                             "and one between equal neighbours), so CTC cannot write them; leave them out")
        return found

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """A batch of sequences: a row for each frame."""
        sequences, targets = Sequences.padded(inputs, samples.fields["lengths"][rows]), samples.labels[rows]
        return Batch(sequences, None, rows, places=sequences.mask.flatten().nonzero()[:, 0],
                     targets={"symbols": targets, "lengths": sequences.lengths, "symbol_count": (targets != BLANK).sum(dim=1)})

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """CTC's loss, a mean over samples.

        Raises:
            ValueError: labels are to be smoothed, and frames have none.
        """
        if smoothing:
            raise ValueError(f"recipe.label_smoothing is {smoothing:g}, but frames of transcriptions have no label to smooth; "
                             "set it to 0")
        assert output.dense is not None
        return ctc_loss(output.dense, batch.targets["lengths"], batch.targets["symbols"], batch.targets["symbol_count"])

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """How well the symbols are read off the best path.

        `error_rate` is the number of edits (Levenshtein) over the number of symbols; `symbol_accuracy` is 1 minus it, and 0
        where it exceeds 1.
        """
        references = [[[symbol for symbol in line if symbol != BLANK]] for line in samples.labels.tolist()]
        found = ctc_greedy(answers.logits, samples.fields["lengths"], BLANK)
        edits = total_edits(references, found)
        return {"symbol_accuracy": clipped_accuracy(edits), "error_rate": edits.rate,
                "sequence_accuracy": sequence_accuracy(references, found), "insertions": float(edits.insertions),
                "deletions": float(edits.deletions), "substitutions": float(edits.substitutions)}

    def decode(self, output: ModelOutput) -> list[list[str]]:
        """The symbols of every sequence, read off the best path."""
        length = output.logits.shape[1]
        lengths = torch.full((len(output.logits),), length) if output.mask is None else output.mask.sum(dim=1)
        return [[self.classes[symbol - 1] for symbol in line] for line in ctc_greedy(output.logits, lengths, BLANK)]
