"""Tidy rows of what a run measured, and the CSVs they are written to."""

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from kdrun.config.instantiation import declared
from kdrun.config.schema import MeasureSettings, Settings
from kdrun.data.data import Data
from kdrun.data.sequences import Inputs
from kdrun.evaluation import metrics
from kdrun.tasks.base import Task
from kdrun.tasks.classification import Classification
from kdrun.utils.cells import guarded_frame
from kdrun.utils.files import write_atomically

if TYPE_CHECKING:
    from kdrun.config.registry import MethodCard
    from kdrun.training.trained import TrainedNetwork

__all__ = ["COLUMNS", "Latency", "calibration", "columns", "headline", "history", "latency", "per_class", "rows",
           "weak_teachers", "write_csv"]

BEFORE: Final = (
    "run", "seed", "dataset", "task", "method", "scheme", "knowledge", "family", "recipe", "role", "model",
    "parameters", "nonzero", "bytes", "bits", "file_bytes", "flops", "latency_ms", "latency_iqr_ms", "machine_busy", "epochs",
    "seconds",
    "headline", "headline_value",
)
AFTER: Final = (
    "distillation_score", "alpha", "size_unit", "relative_error", "distillation_factor",
    "gap_points", "teacher_gap_points", "weak_teacher",
    "accuracy_reduction_pct", "improvement_pct", "size_reduction_pct", "kl", "correlation", "agreement",
)


def columns(task: type[Task] | Task) -> tuple[str, ...]:
    """Columns of the results.csv of a run of a task: what every run has, and between them the task's own measures.

    Shares are from 0 to 1. `headline` names the measure that plays the part of accuracy in all comparisons, and
    `headline_value` has its value. Columns that end in `_points` are differences of headlines in percentage points; those
    that end in `_pct` are the surveys' relative changes, in per cent of the teacher's or the baseline's own value.
    `weak_teacher` and `machine_busy` are 1 or 0. `bytes` and `bits` are those of packed weights (`metrics.Size`), `file_bytes`
    those of the file of weights. FLOPs and latency are those of dense arithmetic: single zeros make neither less.
    """
    return (*BEFORE, *task.measured, *AFTER)


COLUMNS: Final = columns(Classification)
"""Columns of the results of a classifier."""

WHOLE: Final = ("epochs", "parameters", "nonzero", "bytes", "bits", "file_bytes", "flops", "machine_busy", "weak_teacher")

HISTORY_COLUMNS = ("run", "role", "phase", "epoch", "split", "metric", "value")
PER_CLASS_COLUMNS = ("run", "role", "model", "class", "samples", "recall", "f1")
CALIBRATION_COLUMNS = ("run", "role", "model", "bin", "samples", "confidence", "accuracy")


LATENCY_SECONDS: Final = 0.1  # how long a network is measured, beside the warm-up
LATENCY_INPUTS: Final = 16    # different inputs, in turns
FREE: Final = 0.95            # the least share of a CPU that a measurement on a quiet machine gets


class Latency(NamedTuple):
    """How long a network takes to answer one input.

    Attributes:
        median_ms: of the replicates, in milliseconds.
        iqr_ms: their interquartile range.
        busy: whether other work disturbed the measurement: the process had to wait for a CPU, or the replicates
            are further apart than torch.utils.benchmark trusts (a tenth of the median). The median is then too high.
    """

    median_ms: float
    iqr_ms: float
    busy: bool


def latency(network: torch.nn.Module, task: Task) -> Latency:
    """Time a network on one input at a time, by torch.utils.benchmark, on one thread whatever the run uses.

    Inputs change from call to call: a network that remembers its last answer (a `Role`) has to compute each of them.
    """
    from torch.utils.benchmark import Timer

    network.eval()
    place = metrics.place_of(network)
    inputs = itertools.cycle([varied(task.example(1, place), number) for number in range(LATENCY_INPUTS)])
    timer = Timer("network(next(inputs))", globals={"network": network, "inputs": inputs})  # its default is one thread
    with torch.inference_mode():
        began, worked = time.perf_counter(), time.thread_time()
        measured = timer.blocked_autorange(min_run_time=LATENCY_SECONDS)  # warms up while it finds its block size
        passed, worked = time.perf_counter() - began, time.thread_time() - worked
    return Latency(1000 * measured.median, 1000 * measured.iqr, worked < FREE * passed or not measured.meets_confidence())


def varied(inputs: Inputs, number: int) -> Inputs:
    """Other inputs of the same form: pictures of noise; whatever else there is, in memory of its own."""
    if not isinstance(inputs, torch.Tensor):
        return inputs.map(torch.Tensor.clone)
    if not inputs.is_floating_point():
        return inputs.clone()
    return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(number)).to(inputs.device)


def rows(run: str, settings: Settings, card: "MethodCard", data: Data, made: list["TrainedNetwork"]) -> list[dict[str, Any]]:
    """A row for each network; the student's (and each peer's) is compared with the teacher and the baseline.

    A teacher of some of the classes is measured on the samples of these, and nobody is compared with it.
    """
    task = data.task
    told = {"run": run, "seed": settings.seed, "dataset": settings.node("dataset")["name"], "task": task.key,
            "method": settings.method, "scheme": settings.choices["scheme"],
            "knowledge": declared(settings.node("method"), "knowledge"), "family": card.family,
            "recipe": settings.recipe.name, "headline": task.headline}
    found = []
    teacher = next((one for one in made if one.role == "teacher" and one.classes is None), None)
    baseline = next((one for one in made if one.role == "baseline"), None)
    for one in made:
        own = data.seen(one.role).task
        size, timed, measures = metrics.size(one.network), latency(one.network, own), one.measured(data)
        row = dict.fromkeys(columns(task)) | told | (size._asdict() if size else {}) | {
            "role": one.role, "model": one.model, "recipe": trained_by(one, settings),
            "epochs": one.epochs, "seconds": one.seconds,
            "nonzero": metrics.nonzero(one.network),
            "flops": metrics.flops(one.network, own.example(1, metrics.place_of(one.network))),
            "latency_ms": timed.median_ms, "latency_iqr_ms": timed.iqr_ms, "machine_busy": int(timed.busy),
            "headline_value": measures[task.headline], **measures}
        if one.role != "baseline" and not one.role.startswith("teacher"):
            row |= compared(row, one, teacher, baseline, data, settings.measures)
        found.append(row)
    return found


def trained_by(one: "TrainedNetwork", settings: Settings) -> str:
    """The name of the recipe that a network was trained by."""
    first = one.role.split()[0] == "teacher" and one.origin != "checkpoint"
    return (settings.teacher_recipe if first else settings.recipe).name


def compared(row: dict[str, Any], student: "TrainedNetwork", teacher: "TrainedNetwork | None",
             baseline: "TrainedNetwork | None", data: Data, measures: MeasureSettings) -> dict[str, Any]:
    """What a student's row says of it beside its teacher and its baseline; null where there is none."""
    found: dict[str, Any] = {"alpha": measures.alpha, "size_unit": measures.size_unit}
    own, alone = row["headline_value"], headline(baseline, data) if baseline is not None else None
    if alone is not None:
        found |= {"gap_points": 100 * (own - alone), "improvement_pct": metrics.improvement_pct(own, alone)}
    if teacher is not None:
        theirs, unit = metrics.size(teacher.network), measures.size_unit
        taught = headline(teacher, data)
        (theirs_rows, _), (own_rows, _) = (data.task.split_rows(one.answers, data.test) for one in (teacher, student))
        if alone is not None:
            found["weak_teacher"] = int(metrics.weak_teacher(taught, alone))
        found |= {
            "teacher_gap_points": 100 * (own - taught),
            "relative_error": metrics.relative_error(own, taught),
            "accuracy_reduction_pct": metrics.accuracy_reduction_pct(own, taught),
            "kl": metrics.finite(metrics.kl_divergence(theirs_rows, own_rows)),
            "correlation": metrics.correlation(theirs_rows, own_rows),
            "agreement": metrics.agreement(theirs_rows, own_rows),
        }
        if theirs is not None and row[unit] is not None:  # a Gaussian process, say, has no size
            found |= {
                "distillation_score": metrics.distillation_score(row[unit], getattr(theirs, unit), own, taught,
                                                                 measures.alpha),
                "distillation_factor": metrics.distillation_factor(row["parameters"], theirs.parameters),
                "size_reduction_pct": metrics.size_reduction_pct(row[unit], getattr(theirs, unit)),
            }
    return found


def headline(one: "TrainedNetwork", data: Data) -> float:
    """The headline of a network on the test set; 0 where it is not defined."""
    return one.measured(data)[data.task.headline] or 0.0


def weak_teachers(data: Data, made: list["TrainedNetwork"], measures: MeasureSettings) -> list[str]:
    """A warning for each teacher that is no better than the student alone.

    Args:
        data: of the run.
        made: its networks, as far as they are trained.
        measures: the settings of the distillation score.
    """
    unit, alpha = measures.size_unit, measures.alpha
    baseline = next((one for one in made if one.role == "baseline"), None)
    found = []
    for one in made:
        if baseline is None or one.role.split()[0] != "teacher" or one.classes is not None:
            continue
        taught, alone = headline(one, data), headline(baseline, data)
        if not metrics.weak_teacher(taught, alone):
            continue
        error, sizes = metrics.relative_error(alone, taught), [metrics.size(made.network) for made in (baseline, one)]
        own, theirs = (getattr(size, unit) if size else None for size in sizes)
        score = metrics.distillation_score(own, theirs, alone, taught, alpha) if own is not None and theirs else None
        told = []
        if error is not None:
            told.append(f"a relative error of {error:.3f} (below 1 reads as better than the teacher)")
        if score is not None:
            flattered = (1 - alpha) * (alone / taught - 1)
            told.append(f"a distillation score of {score:.3f}, {flattered:.3f} lower (better) than against a teacher as good "
                        "as itself")
        reached = f": without any distillation the student alone has {' and '.join(told)}" if told else ""
        found.append(
            f"the {one.role} {one.model} ({100 * taught:.2f} %) is no better than the student alone ({100 * alone:.2f} %). "
            f"What is measured against such a teacher looks better than it is{reached}. Judge by the gap to the student alone; "
            "the rows are marked (weak_teacher) and not ranked")
    return found


def history(run: str, made: list["TrainedNetwork"]) -> list[dict[str, Any]]:
    """Every loss term and validation measure of every epoch, in long form."""
    seen = dict.fromkeys((run, *entry) for one in made for entry in one.history)
    return [dict(zip(HISTORY_COLUMNS, entry, strict=True)) for entry in seen]


def per_class(run: str, data: Data, made: list["TrainedNetwork"]) -> list[dict[str, Any]]:
    """Recall and F1 of every class for every network; nothing where rows have no labels."""
    found = []
    for one in made:
        own = data.only(one.classes)
        logits, labels = own.task.split_rows(one.answers, own.test)
        if labels is None:
            continue
        counts = torch.bincount(labels, minlength=logits.shape[1]).tolist()
        found += [dict(zip(PER_CLASS_COLUMNS, (run, one.role, one.model, *entry), strict=True)) for entry in
                  zip(own.task.row_names, counts, metrics.recall(logits, labels), metrics.f1(logits, labels), strict=True)]
    return found


def calibration(run: str, data: Data, made: list["TrainedNetwork"]) -> list[dict[str, Any]]:
    """Mean confidence and accuracy in every bin of confidence, from 1, for every network: what its ECE is summed from."""
    found = []
    for one in made:
        own = data.only(one.classes)
        logits, labels = own.task.split_rows(one.answers, own.test)
        if labels is not None:
            found += [dict(zip(CALIBRATION_COLUMNS, (run, one.role, one.model, place, *held), strict=True))
                      for place, held in enumerate(metrics.calibration_bins(logits, labels), start=1)]
    return found


def write_csv(path: Path, table: list[dict[str, Any]], columns: tuple[str, ...] | None = None) -> None:
    """Write a table whole or not at all; null is an empty field. Without `columns`, those of its first row."""
    import pandas

    frame = pandas.DataFrame(table, columns=list(columns) if columns else None)
    for column in WHOLE:
        if column in frame:
            frame[column] = frame[column].astype("Int64")
    write_atomically(path, lambda part: guarded_frame(frame).to_csv(part, index=False))
