"""One class a sample."""

import statistics
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import Inputs, Sequences
from kdrun.evaluation import metrics
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Task
from kdrun.tasks.frames import length_problems

__all__ = ["Classification"]


class Classification(Task):
    """One of several classes for each sample: of a picture, of a text (token ids), or of a sequence of frames.

    What networks see a reader says: `info["inputs"]` is tokens (with the size of their `vocabulary`) or frames, and
    pictures where it says nothing. Sequences are padded at their ends, and their `lengths` [N] are among the fields.
    """

    key = "classification"
    headline = "accuracy"
    measured = ("accuracy", "top5", "macro_f1", "nll", "ece")
    watched = ("accuracy", "nll")
    sample_labels: ClassVar[bool] = True
    dense: ClassVar[bool] = False

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        vars(self)["inputs"] = self.info.get("inputs", "pictures")  # other tasks see one kind, which their class says

    def given(self) -> dict[str, Any]:
        """What the constructor of a network may ask for, by name."""
        if self.inputs == "pictures":
            return super().given()
        frames = {"features": self.shape[1]} if self.inputs == "frames" else {}
        return {"classes": self.outputs, "length": self.shape[0], "per_place": False, **frames, **self.info}

    def example(self, count: int, device: torch.device | str = "cpu") -> Inputs:
        """Inputs of the right form; sequences of full length."""
        if self.inputs == "pictures":
            return super().example(count, device)
        values = torch.ones(count, *self.shape, device=device, dtype=torch.int64 if self.inputs == "tokens" else torch.float32)
        return Sequences(values, torch.ones(count, self.shape[0], dtype=torch.bool, device=device))

    def problems(self, source: Source) -> list[str]:
        """What makes labelled pictures or sequences unfit."""
        return source.picture_problems() if self.inputs == "pictures" else \
            source.problems() or length_problems(source) or source.class_problems() or self.token_problems(source)

    def token_problems(self, source: Source) -> list[str]:
        """Where token ids are none of the vocabulary, a line each."""
        count = self.info.get("vocabulary", 0)
        return [f"the {name} token ids are {part.inputs.dtype}, from {int(part.inputs.min())} to {int(part.inputs.max())}; "
                f"expected int64 from 0 to {count - 1}" for name, part in source.parts.items() if self.inputs == "tokens" and
                (part.inputs.dtype != torch.int64 or int(part.inputs.min()) < 0 or int(part.inputs.max()) >= count)]

    def batch(self, samples: Samples, rows: Tensor, inputs: Inputs, draws: torch.Generator | None = None) -> Batch:
        """A batch of samples; inputs may be sequences that were made of pictures."""
        own = inputs if self.inputs == "pictures" or not isinstance(inputs, Tensor) else \
            Sequences.padded(inputs, samples.fields["lengths"][rows])
        return Batch(own, samples.labels[rows], rows)

    def split_rows(self, answers: ModelOutput, samples: Samples) -> tuple[Tensor, Tensor | None]:
        """The answers and labels themselves."""
        return answers.logits, samples.labels

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """Accuracy, top-5 accuracy, the mean F1 of the classes, negative log-likelihood and calibration error."""
        logits, labels = answers.logits, samples.labels
        f1 = [score for score in metrics.f1(logits, labels) if score is not None]
        return {"accuracy": metrics.accuracy(logits, labels), "top5": metrics.accuracy(logits, labels, top=5),
                "macro_f1": statistics.fmean(f1) if f1 else None, "nll": metrics.finite(metrics.nll(logits, labels)),
                "ece": metrics.calibration_error(logits, labels)}
