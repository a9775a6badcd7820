"""The parts of the bench that measure this process from within: data path, teacher, formats, evaluation."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from kdrun.bench.loop import floor_of, prepared, steps
from kdrun.bench.measure import WARM, Bound, Row, Time, alternate, median_ratio
from kdrun.bench.processes import memory
from kdrun.bench.reference_loops import Step
from kdrun.bench.workload import Subject
from kdrun.data.batch import Batch
from kdrun.training.loop import distill

__all__ = ["compilation", "data", "evaluation", "formats", "teacher"]


def data(subject: Subject) -> Iterator[Row]:
    """What making a batch takes, of a step in which the student learns alone."""
    stream = subject.plain.data.stream(batch_size=subject.batch_size, seed=1, device=subject.plain.device)
    epochs = (batch for epoch in range(10**6) for batch in stream.epoch(epoch, 1))

    def make(*_: object) -> None:
        next(epochs)

    done = steps(subject, prepared(subject, "vanilla"), [make])
    share = statistics.median(batch / (batch + step) for batch, step in zip(done.theirs, done.ours, strict=True))
    yield Row("data", "making a batch", statistics.fmean(done.theirs), "a step of the student alone",
              statistics.fmean(done.ours), share, "%", ("at most", 0.03))


def teacher(subject: Subject) -> Iterator[Row]:
    """What a teacher that runs costs, and what is left of it once its answers are remembered."""
    live, alone = prepared(subject, "kd"), prepared(subject, "vanilla")
    done = steps(subject, live, floor_of(alone))
    yield Row("teacher", "kd: a step with the live teacher", statistics.fmean(done.ours), "the student alone",
              statistics.fmean(done.theirs), median_ratio(done.ours, done.theirs))
    count = subject.batch_size * subject.steps * (WARM + subject.rounds)
    remembered = prepared(subject, "kd", "teacher.remember=true", count=count)
    batches = list(remembered.build_stream().epoch(0, 1))
    done = steps(subject, remembered, floor_of(remembered), batches)
    yield Row("teacher", "kd: a step with remembered answers", statistics.fmean(done.ours), "bare loop, live teacher",
              statistics.fmean(done.theirs), median_ratio(done.ours, done.theirs), "x", ("at most", 1.0))


def formats(subject: Subject) -> Iterator[Row]:
    """The defaults on this device against what else there is: memory format, precision, optimizer."""

    def against(name: str, step: Step, bound: Bound | None) -> Row:
        done = steps(subject, prepared(subject, "kd"), [step])
        return Row("formats", "kd: a step as by default", statistics.fmean(done.ours), name, statistics.fmean(done.theirs),
                   median_ratio(done.ours, done.theirs), "x", bound)

    other = prepared(subject, "kd")
    contiguous = floor_of(other, torch.contiguous_format)[0]
    yield against("contiguous memory", lambda x, y, rows: contiguous(x.clone(memory_format=torch.contiguous_format), y, rows),
                  ("at most", 1.05))
    reduced = other.factory.precision is not None
    other.factory.precision = None if reduced else torch.bfloat16
    # the faster precision is the default where it is a GPU's own; on processors fp32 is, whatever is measured
    yield against("fp32" if reduced else "bf16 autocast", floor_of(other)[0], ("at most", 1.05) if reduced else None)
    weights = list(other.networks.student.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    fused = torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=True)
    foreach = torch.optim.SGD(weights, lr=0.1, momentum=0.9, foreach=True)
    times = alternate({"fused": fused.step, "foreach": foreach.step}, 4 * subject.rounds, subject.clock)
    yield Row("formats", "an update by fused SGD", statistics.fmean(times["fused"]), "by torch's foreach",
              statistics.fmean(times["foreach"]), median_ratio(times["fused"], times["foreach"]), "x", ("at most", 1.05))
    if other.device.type == "cpu":
        yield memory(subject)


def compilation(subject: Subject) -> Iterator[Row]:
    """What `speed.compile=true` costs before the first step, what it gains in each, and when that has paid."""
    run = prepared(subject, "kd", "speed.compile=true")
    bare, began, first = floor_of(run)[0], subject.clock.now(), list[Time]()

    def other(x: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> None:
        if not first:
            first.append(subject.clock.now() - began)
        bare(x, y, rows)

    done = steps(subject, run, [other])
    ours, theirs = statistics.fmean(done.ours), statistics.fmean(done.theirs)
    yield Row("compile", "kd: a step of compiled networks", ours, "bare loop, not compiled", theirs,
              median_ratio(done.ours, done.theirs))
    waited = first[0].wall
    paid = f"paid after {waited / (theirs - ours):,.0f} steps" if theirs > ours else "never paid"
    yield Row("compile", f"compiling, {paid}", waited, value=waited, unit="s")


class Cut:
    """The first batches of each epoch of a stream, and the moments at which it was asked for them."""

    def __init__(self, batches: list[Batch], subject: Subject) -> None:
        self.batches, self.clock = batches, subject.clock
        self.starts: list[Time] = []
        self.ends: list[Time] = []

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch."""
        self.starts.append(self.clock.now())
        for step, batch in enumerate(self.batches):
            yield replace(batch, epoch=epoch, epochs=epochs, step=step)
        self.ends.append(self.clock.now())


def evaluation(subject: Subject) -> Iterator[Row]:
    """What watching a training costs, of an epoch of the student alone on all training pictures."""
    made, clock, epochs = subject.experiment("vanilla", "recipe.epochs=4"), subject.clock, 4
    made = replace(made, recipe=replace(made.recipe, epochs=epochs))
    run = made.run_of("bench", "student", made.method(), made.scheme(), made.factory(rehearsal=True))
    cut = Cut(subject.batches, subject)
    run.build_stream = lambda: cut  # type: ignore[assignment,return-value]
    distill(run)
    step = statistics.median(clock.seconds(end - start) for start, end in zip(cut.starts, cut.ends, strict=True)) / len(cut)
    epoch = step * (len(run.data.train) // subject.batch_size)
    seen = statistics.median(clock.seconds(start - end) for start, end in zip(cut.starts[1:], cut.ends[:-1], strict=True))
    yield Row("evaluation", f"validation on {len(run.data.validation):,} pictures", seen, "an epoch of the student alone",
              epoch, seen / (seen + epoch), "%", ("at most", 0.05))
    unseen, cut = prepared(subject, "vanilla"), Cut(subject.batches, subject)  # what is left after its last step is to save
    unseen.build_stream, unseen.folder = lambda: cut, subject.folder / "checkpoints"  # type: ignore[assignment,return-value]
    distill(unseen)
    saved, every = clock.seconds(clock.now() - cut.ends[-1]), made.settings.run.checkpoint_seconds
    yield Row("evaluation", "a checkpoint", saved, "the time between two", every, saved / every, "%", ("at most", 0.05))
    few = torch.arange(subject.batch_size)
    small = replace(subject.experiment("kd"), data=replace(run.data, train=run.data.train[few]))
    small = replace(small, recipe=replace(small.recipe, epochs=1))
    everybody = [*small.teachers(), small.alone(small.student, "baseline"), *small.distilled(subject.folder / "students")]
    start, wall = clock.now(), time.perf_counter()
    small.write(subject.folder / "run", everybody)
    written = clock.seconds(clock.now() - start) if clock.by == "cpu" else time.perf_counter() - wall
    yield Row("evaluation", "measures, tables and curves of a run", written, "240 epochs", 240 * epoch,
              written / (240 * epoch), "%", ("at most", 0.05))
