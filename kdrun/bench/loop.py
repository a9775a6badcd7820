"""The engine against bare loops: both on batches made beforehand, in turns within one run of the engine."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from kdrun.bench.measure import WARM, Clock, Row, median_ratio
from kdrun.bench.reference_loops import FLOORS, Bare, Step
from kdrun.bench.workload import Subject
from kdrun.data.batch import Batch
from kdrun.methods.base import Run
from kdrun.training.loop import distill

__all__ = ["Alternating", "bare_of", "floor_of", "loop", "prepared", "steps"]


class Alternating:
    """The batches of a run, with a turn of something else after every few of them.

    The engine asks for the next batch when it is done with a step, so what lies between two batches is all that a step
    costs: nothing of it can be left out of the account.

    Args:
        batches: shown over and over.
        others: for each phase what takes turns with it.
        rounds: how many turns are counted.
        steps: of a turn.
        clock: which time counts.
    """

    def __init__(self, batches: Sequence[Batch], others: Sequence[Step], rounds: int, steps: int, clock: Clock) -> None:
        self.batches, self.others, self.rounds, self.steps, self.clock = batches, others, rounds, steps, clock
        self.phase = 0
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def __len__(self) -> int:
        return (WARM + self.rounds) * self.steps

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The turns of a phase."""
        other, self.phase = self.others[self.phase], self.phase + 1
        for number in range(WARM + self.rounds):
            shown = [self.batches[(number * self.steps + step) % len(self.batches)] for step in range(self.steps)]
            start = self.clock.now()
            for step, batch in enumerate(shown, number * self.steps):
                yield replace(batch, epoch=epoch, epochs=epochs, step=step)
            half = self.clock.now()
            for batch in shown:
                assert batch.index is not None
                other(batch.pictures, batch.labels, batch.index)
            end = self.clock.now()
            if number >= WARM:
                self.ours.append(self.clock.seconds(half - start) / self.steps)
                self.theirs.append(self.clock.seconds(end - half) / self.steps)


def prepared(subject: Subject, method: str, *words: str, count: int | None = None) -> Run:
    """A training that is ready to start, with a teacher's first weights and nothing to validate on.

    Args:
        subject: what is measured.
        method: its key.
        words: further settings, as on the command line.
        count: of training pictures; None for all.
    """
    made = subject.experiment(method, *words)
    train, nothing = made.data.train[torch.arange(count or len(made.data.train))], torch.zeros(0, dtype=torch.int64)
    factory = made.factory(rehearsal=True, data=replace(made.data, train=train, validation=made.data.validation[nothing]))
    factory.compiled = made.settings.speed.compile
    if made.settings.teacher.remember:
        factory.remember = made.remember
    return made.run_of("bench", "student", made.method(), made.scheme(), factory)


def steps(subject: Subject, run: Run, others: Sequence[Step], batches: Sequence[Batch] | None = None) -> Alternating:
    """Train, with turns of something else in between."""
    stream = Alternating(batches or subject.batches, others, subject.rounds, subject.steps, subject.clock)
    run.build_stream = lambda: stream  # type: ignore[assignment,return-value]
    distill(run)
    return stream


def bare_of(run: Run, memory_format: torch.memory_format = torch.channels_last) -> Bare:
    """What a bare loop has to do with: copies of a training's networks, in this memory format."""
    student = copy.deepcopy(run.networks.student.network).train()
    teacher = copy.deepcopy((run.networks.teachers or [run.networks.student])[0].network).eval().requires_grad_(False)
    numbers = vars(run.method)
    peers = [role.network.train() for role in run.factory.peers(numbers["peers"])] if "peers" in numbers else []
    factory = [network.to(memory_format=memory_format) for network in (student, teacher, *peers)]  # type: ignore[call-overload]
    return Bare(factory[0], factory[1], factory[2:], numbers, run.data.train.labels.to(run.device), run.data.shape,
                run.recipe, run.factory.precision)


def floor_of(run: Run, memory_format: torch.memory_format = torch.channels_last) -> list[Step]:
    """The bare loops of a training's phases."""
    return FLOORS[type(run.method).__name__.lower()](bare_of(run, memory_format))


def loop(subject: Subject, methods: Sequence[str]) -> Iterator[Row]:
    """A row for each method: a step of the engine against the bare one."""
    for method in methods:
        run = prepared(subject, method)
        done = steps(subject, run, floor_of(run))
        yield Row("loop", f"{method}: a step of the engine", sum(done.ours) / len(done.ours), "bare loop",
                  sum(done.theirs) / len(done.theirs), median_ratio(done.ours, done.theirs), "x", ("at most", 1.05))
