"""One class a sample."""

import statistics
from typing import ClassVar

from kdrun.data.samples import Samples, Source
from kdrun.evaluation import metrics
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Task

__all__ = ["Classification"]


class Classification(Task):
    """One of several classes for each sample."""

    key = "classification"
    headline = "accuracy"
    measured = ("accuracy", "top5", "macro_f1", "nll", "ece")
    watched = ("accuracy", "nll")
    sample_labels: ClassVar[bool] = True
    dense: ClassVar[bool] = False

    def problems(self, source: Source) -> list[str]:
        """What makes labelled pictures unfit."""
        return source.picture_problems()

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """Accuracy, top-5 accuracy, the mean F1 of the classes, negative log-likelihood and calibration error."""
        logits, labels = answers.logits, samples.labels
        f1 = [score for score in metrics.f1(logits, labels) if score is not None]
        return {"accuracy": metrics.accuracy(logits, labels), "top5": metrics.accuracy(logits, labels, top=5),
                "macro_f1": statistics.fmean(f1) if f1 else None, "nll": metrics.finite(metrics.nll(logits, labels)),
                "ece": metrics.calibration_error(logits, labels)}
