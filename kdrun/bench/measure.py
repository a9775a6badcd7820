"""Time, taken so that a noisy machine does not decide: in turns, many short rounds, medians of ratios."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

__all__ = ["Clock", "Row", "Time", "alternate", "median_ratio"]

Bound = tuple[Literal["at most", "at least"], float]

WARM = 2  # first rounds that are not counted: caches fill, memory is fetched, algorithms are chosen


class Time(NamedTuple):
    """A stretch of time in seconds: of the clock on the wall, and of the CPU for this process."""

    wall: float
    cpu: float

    def __sub__(self, other: "Time") -> "Time":
        return Time(self.wall - other.wall, self.cpu - other.cpu)


@dataclass(frozen=True)
class Clock:
    """Which time counts, on this device and with so many threads.

    Where one thread computes, it is the CPU's time of this process: what neighbours do is no part of it. Several
    threads and accelerators are timed by the wall.
    """

    device: torch.device
    threads: int

    @property
    def by(self) -> Literal["cpu", "wall"]:
        """Which of the two times."""
        return "cpu" if self.device.type == "cpu" and self.threads == 1 else "wall"

    def now(self) -> Time:
        """The time, when all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return Time(time.perf_counter(), time.process_time())

    def seconds(self, stretch: Time) -> float:
        """The time that counts."""
        return getattr(stretch, self.by)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        part: of the bench.
        what: was measured.
        seconds: it took.
        against: what it is compared with.
        against_seconds: that took.
        value: of the comparison: the median over the rounds.
        unit: `x` for a ratio, `%` for a share from 0 to 1, `s` for seconds.
        bound: what the value should be: (at most | at least, a number); None where nothing is demanded.
    """

    part: str
    what: str
    seconds: float
    against: str = ""
    against_seconds: float | None = None
    value: float | None = None
    unit: Literal["x", "%", "s"] = "x"
    bound: Bound | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value is within its bound."""
        if self.bound is None or self.value is None:
            return None
        side, limit = self.bound
        return self.value <= limit if side == "at most" else self.value >= limit


def alternate(parts: Mapping[str, Callable[[], object]], rounds: int, clock: Clock, warm: int = WARM) -> dict[str, list[float]]:
    """Do the parts in turns: the seconds that each took in each round; the first rounds are left out."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(warm + rounds):
        for name, work in parts.items():
            start = clock.now()
            work()
            stretch = clock.now() - start
            if number >= warm:
                found[name].append(clock.seconds(stretch))
    return found


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of how many times as long ours took."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
