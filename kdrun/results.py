"""Tidy rows of what a run measured, and the CSVs they are written to."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdrun import metrics
from kdrun.config import Settings, said
from kdrun.data.data import Data
from kdrun.files import write_atomically

if TYPE_CHECKING:
    from kdrun.catalogue import MethodCard
    from kdrun.store import Made

__all__ = ["COLUMNS", "calibration", "history", "latency_ms", "per_class", "rows", "write_csv"]

COLUMNS = (
    "run", "seed", "dataset", "method", "scheme", "knowledge", "family", "recipe", "role", "model",
    "parameters", "bytes", "bits", "flops", "latency_ms", "epochs", "seconds",
    "accuracy", "top5", "macro_f1", "nll", "ece",
    "distillation_score", "alpha", "size_unit", "relative_error", "distillation_factor",
    "accuracy_reduction_pct", "improvement_pct", "size_reduction_pct", "kl", "correlation", "agreement",
)
"""Columns of results.csv. Those that end in `_pct` are per cent; every other share is from 0 to 1."""

HISTORY_COLUMNS = ("run", "role", "phase", "epoch", "split", "metric", "value")
PER_CLASS_COLUMNS = ("run", "role", "model", "class", "samples", "recall", "f1")
CALIBRATION_COLUMNS = ("run", "role", "model", "bin", "samples", "confidence", "accuracy")


def latency_ms(network: torch.nn.Module, shape: tuple[int, ...], repeats: int = 20) -> float:
    """The median time in milliseconds to answer one picture [C, H, W], after a warm-up."""
    network.eval()
    place = metrics.place_of(network)
    picture = torch.zeros(1, *shape, device=place)
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 5):
            start = time.perf_counter()
            network(picture)
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[5:])


def rows(run: str, settings: Settings, card: "MethodCard", data: Data, made: list["Made"]) -> list[dict[str, Any]]:
    """A row for each network; the student's (and each peer's) is compared with the teacher and the baseline."""
    labels = data.test.labels
    told = {"run": run, "seed": settings.seed, "dataset": settings.values["dataset"]["name"],
            "method": settings.method, "scheme": settings.choices["scheme"],
            "knowledge": said(settings.values["method"], "knowledge"), "family": card.family,
            "recipe": settings.values["recipe"]["name"]}
    found = []
    teacher = next((one for one in made if one.role == "teacher"), None)
    baseline = next((one for one in made if one.role == "baseline"), None)
    for one in made:
        shape = data.seen("teacher" if one.role.startswith("teacher") else "student").shape
        f1 = [score for score in metrics.f1(one.logits, labels) if score is not None]
        size = metrics.size(one.network)
        row = dict.fromkeys(COLUMNS) | told | (size._asdict() if size else {}) | {
            "role": one.role, "model": one.model, "epochs": one.epochs, "seconds": one.seconds,
            "flops": metrics.flops(one.network, shape), "latency_ms": latency_ms(one.network, shape),
            "accuracy": metrics.accuracy(one.logits, labels), "top5": metrics.accuracy(one.logits, labels, top=5),
            "macro_f1": statistics.fmean(f1) if f1 else None, "nll": metrics.finite(metrics.nll(one.logits, labels)),
            "ece": metrics.calibration_error(one.logits, labels),
        }
        if one.role != "baseline" and not one.role.startswith("teacher"):
            row |= compared(row, one, teacher, baseline, labels, settings.values["measures"])
        found.append(row)
    return found


def compared(row: dict[str, Any], student: "Made", teacher: "Made | None", baseline: "Made | None",
             labels: torch.Tensor, measures: dict[str, Any]) -> dict[str, Any]:
    """What a student's row says of it beside its teacher and its baseline; null where there is none."""
    found: dict[str, Any] = {"alpha": measures["alpha"], "size_unit": measures["size_unit"]}
    own = row["accuracy"]
    if baseline is not None:
        alone = metrics.accuracy(baseline.logits, labels)
        assert alone is not None
        found["improvement_pct"] = metrics.improvement_pct(own, alone)
    if teacher is not None:
        theirs, unit = metrics.size(teacher.network), measures["size_unit"]
        taught = metrics.accuracy(teacher.logits, labels)
        assert taught is not None
        found |= {
            "relative_error": metrics.relative_error(own, taught),
            "accuracy_reduction_pct": metrics.accuracy_reduction_pct(own, taught),
            "kl": metrics.finite(metrics.kl_divergence(teacher.logits, student.logits)),
            "correlation": metrics.correlation(teacher.logits, student.logits),
            "agreement": metrics.agreement(teacher.logits, student.logits),
        }
        if theirs is not None and row[unit] is not None:  # a Gaussian process, say, has no size
            found |= {
                "distillation_score": metrics.distillation_score(row[unit], getattr(theirs, unit), own, taught,
                                                                 measures["alpha"]),
                "distillation_factor": metrics.distillation_factor(row["parameters"], theirs.parameters),
                "size_reduction_pct": metrics.size_reduction_pct(row[unit], getattr(theirs, unit)),
            }
    return found


def history(run: str, made: list["Made"]) -> list[dict[str, Any]]:
    """Every loss term and validation measure of every epoch, in long form."""
    seen = dict.fromkeys((run, *entry) for one in made for entry in one.history)
    return [dict(zip(HISTORY_COLUMNS, entry, strict=True)) for entry in seen]


def per_class(run: str, data: Data, made: list["Made"]) -> list[dict[str, Any]]:
    """Recall and F1 of every class for every network."""
    labels = data.test.labels
    counts = torch.bincount(labels, minlength=len(data.classes)).tolist()
    return [dict(zip(PER_CLASS_COLUMNS, (run, one.role, one.model, *entry), strict=True)) for one in made
            for entry in zip(data.classes, counts, metrics.recall(one.logits, labels), metrics.f1(one.logits, labels),
                             strict=True)]


def calibration(run: str, data: Data, made: list["Made"]) -> list[dict[str, Any]]:
    """Mean confidence and accuracy in every bin of confidence, from 1, for every network: what its ECE is summed from."""
    return [dict(zip(CALIBRATION_COLUMNS, (run, one.role, one.model, place, *held), strict=True)) for one in made
            for place, held in enumerate(metrics.calibration_bins(one.logits, data.test.labels), start=1)]


def write_csv(path: Path, table: list[dict[str, Any]], columns: tuple[str, ...] | None = None) -> None:
    """Write a table whole or not at all; null is an empty field. Without `columns`, those of its first row."""
    import pandas

    frame = pandas.DataFrame(table, columns=list(columns) if columns else None)
    for column in ("epochs", "parameters", "bytes", "bits", "flops"):
        if column in frame:
            frame[column] = frame[column].astype("Int64")
    write_atomically(path, lambda part: frame.to_csv(part, index=False))
