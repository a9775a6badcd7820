"""A label for every place of a sequence: for every column of a strip, every frame of speech, every word."""

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Sequences
from kdrun.evaluation import metrics
from kdrun.evaluation.sequence_metrics import clipped_accuracy, macro_f1, segments, total_edits
from kdrun.models.output import ModelOutput
from kdrun.tasks.frames import FrameTask, length_problems

__all__ = ["IGNORED", "Tagging"]

IGNORED = -100
"""The label of a place that has none: it is no row, and nothing is learned or measured there."""


class Tagging(FrameTask):
    """A label for every frame.

    The labels of samples are [N, T], `IGNORED` where there is none. `info["gap"]` may name the class that separates
    segments: it does not count in `foreground_accuracy`, and a segment is a run of one other class.
    """

    key = "tagging"
    headline = "frame_accuracy"
    measured = ("frame_accuracy", "foreground_accuracy", "macro_f1", "segment_accuracy", "segment_error_rate", "nll", "ece")
    watched = ("frame_accuracy", "nll")

    def problems(self, source: Source) -> list[str]:
        """What makes labelled sequences unfit."""
        if found := source.problems() or length_problems(source):
            return found
        for name, part in source.parts.items():
            labels, lengths = part.labels, part.fields["lengths"]
            if labels.dtype != torch.int64 or labels.shape != part.inputs.shape[:2]:
                found.append(f"the {name} labels are {labels.dtype} of the shape {list(labels.shape)}; expected int64 of "
                             f"{list(part.inputs.shape[:2])}, one a place")
                continue
            kept = labels[labels != IGNORED]
            if not len(kept) or int(kept.min()) < 0 or int(kept.max()) >= len(self.classes):
                found.append(f"the {name} labels run from {int(kept.min())} to {int(kept.max())}" if len(kept) else
                             f"no place of the {name} samples has a label")
                found[-1] += f"; expected 0 to {len(self.classes) - 1}, and {IGNORED} where there is none"
            elif bool((labels != IGNORED)[torch.arange(labels.shape[1]) >= lengths[:, None]].any()):
                found.append(f"places of the {name} samples have labels beyond the end of their sequence; expected {IGNORED}")
        return found

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """A batch of sequences: a row for each place that has a label."""
        labels = samples.labels[rows].flatten()
        places = (labels != IGNORED).nonzero()[:, 0]
        return Batch(Sequences.padded(inputs, samples.fields["lengths"][rows]), labels[places], rows, places=places)

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """Accuracy over all frames and over those that are no gap, F1, and how well the segments are read.

        `segment_error_rate` is the number of edits (Levenshtein) between the sequences of segments over the number of
        segments; `segment_accuracy` is 1 minus it, and 0 where it exceeds 1.
        """
        labels, kept, gap = samples.labels, samples.labels != IGNORED, self.info.get("gap")
        found = answers.logits.argmax(dim=2)
        right, rows, own = (found == labels)[kept], answers.logits[kept], labels[kept]
        foreground = right if gap is None else right[own != gap]
        edits = total_edits([[segments(line[keep].tolist(), gap)] for line, keep in zip(labels, kept, strict=True)],
                            [segments(line[keep].tolist(), gap) for line, keep in zip(found, kept, strict=True)])
        return {"frame_accuracy": float(right.double().mean()),
                "foreground_accuracy": float(foreground.double().mean()) if len(foreground) else None,
                "macro_f1": macro_f1(found[kept], own, len(self.classes)),
                "segment_accuracy": clipped_accuracy(edits), "segment_error_rate": edits.rate,
                "nll": metrics.finite(metrics.nll(rows, own)), "ece": metrics.calibration_error(rows, own)}

    def decode(self, output: ModelOutput) -> list[list[str]]:
        """The name of the class of every place, a list a sequence."""
        found = output.logits.argmax(dim=2)
        kept = torch.ones_like(found, dtype=torch.bool) if output.mask is None else output.mask
        return [[self.classes[tag] for tag in line[keep].tolist()] for line, keep in zip(found, kept, strict=True)]
