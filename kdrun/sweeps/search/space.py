"""What a search may choose from, read from Hydra's own syntax for sweeps.

`a,b` and `choice(a,b)` are choices, `range(1,9,2)` is a row of numbers without its end, `interval(0,1)` all numbers between,
`int(interval(1,8))` the whole ones, and `tag(log, interval(1e-3,1))` takes them on a logarithmic scale.
"""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer

from kdrun.config import method_settings
from kdrun.config.schema import ConfigError

__all__ = ["Choice", "Dimension", "Numbers", "Space", "parsed", "read"]


@dataclass(frozen=True)
class Choice:
    """One of some values, as the command line would give them."""

    values: tuple[str, ...]

    @property
    def probes(self) -> tuple[str, ...]:
        """Values that tell whether all are good: every one."""
        return self.values

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.values)

    def distribution(self) -> Any:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included; `step` None for all between."""

    low: float
    high: float
    step: float | None
    log: bool

    @property
    def probes(self) -> tuple[str, ...]:
        """Values that tell whether all are good: both ends."""
        return tuple(dict.fromkeys((repr(self.low), repr(self.high))))

    @property
    def count(self) -> float:
        """How many there are; of whole numbers and of steps only so many."""
        step = 1 if isinstance(self.low, int) else self.step
        return math.inf if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def distribution(self) -> Any:
        """As Optuna has it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int):
            return IntDistribution(self.low, int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


Dimension = Choice | Numbers


@dataclass(frozen=True)
class Space:
    """A command line, taken apart.

    Attributes:
        fixed: the words that every job has.
        dimensions: what is to be chosen, by its key.
        aside: the words that say how to search and where to run, which no job needs.
        method: of every job, where no word chooses one.
    """

    fixed: tuple[str, ...]
    dimensions: Mapping[str, Dimension]
    aside: tuple[str, ...] = ()
    method: str = ""

    def words(self, chosen: Mapping[str, Any]) -> list[str]:
        """The words of a job: what is fixed, and what was chosen; of settings of one method those of the job's alone."""
        words = [*self.fixed, *(f"{key}={value if isinstance(value, str) else repr(value)}" for key, value in chosen.items())]
        return method_settings.settled(words, method_settings.chosen(words) or self.method)

    @property
    def count(self) -> float:
        """How many combinations there are."""
        return math.prod(dimension.count for dimension in self.dimensions.values())

    @property
    def recipe_keys(self) -> Set[str]:
        """The settings of the recipe that are to be chosen; an empty one where the recipe itself is."""
        return {key.lstrip("+").partition(".")[2].partition("[")[0]
                for key in self.dimensions if key.lstrip("+").partition(".")[0] == "recipe"}

    def probes(self) -> list[list[str]]:
        """Jobs that show every choice and both ends of everything: the first of all, then one change at a time."""
        first = {key: own.probes[0] for key, own in self.dimensions.items()}
        changes = [first]
        for key, own in self.dimensions.items():
            method = {"method": name} if (name := method_settings.owner(key)) and "method" in self.dimensions else {}
            changes += [{**first, **method, key: probe} for probe in own.probes[0 if method else 1:]]
        return [self.words(change) for change in changes]


ASIDE = ("sweep", "launch")


def parsed(words: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """The words of a command line; `glob` asks the loader for the choices of a group."""
    parser = OverridesParser.create()
    found = [parser.parse_override(word) for word in words]
    for override in found:
        override.config_loader = loader
    return found


def read(overrides: Sequence[Override], method_of: Callable[[Sequence[str]], str] = lambda words: "") -> Space:
    """Take a command line apart.

    Args:
        overrides: what it holds.
        method_of: tells the method of jobs with these words, where none of them chooses one.

    Raises:
        ConfigError: with a line for each setting that cannot be searched over.
    """
    fixed, aside, found = [], [], []
    dimensions: dict[str, Dimension] = {}
    for override in overrides:
        assert override.input_line is not None
        if override.key_or_group.partition(".")[0] in ASIDE:
            if override.is_sweep_override():
                found.append(f"{override.input_line}: there is one search and one place to run it; give one value")
            aside.append(override.input_line)
        elif not override.is_sweep_override():
            fixed.append(override.input_line)
        else:
            try:
                dimensions[override.input_line.partition("=")[0]] = dimension(override)
            except ValueError as error:
                found.append(f"{override.input_line}: {error}")
    if found:
        raise ConfigError(found)
    fixed = [word for word in fixed if word.partition("=")[0] not in dimensions]  # given twice
    common, own = method_settings.parted([*fixed, *dimensions])
    if not own:
        return Space(tuple(fixed), dimensions, tuple(aside))
    method = method_settings.chosen(common)
    if method is None and "method" not in dimensions:
        method = method_of([word for word in common if "=" in word])
    offered = dimensions.get("method", Choice((method or "",)))
    if lines := method_settings.of_other_methods(own, offered.probes):
        raise ConfigError(lines)
    return Space(tuple(fixed), dimensions, tuple(aside), method or "")


def dimension(override: Override) -> Dimension:
    """What a word offers.

    Raises:
        ValueError: it has no meaning in a search.
    """
    swept: Any = override.value()
    tags, log = swept.tags - {"log"}, "log" in swept.tags
    if tags:
        raise ValueError(f"the tag '{min(tags)}' means nothing here; there is log")
    if getattr(swept, "shuffle", False):
        raise ValueError("a search tries values in an order of its own; leave shuffle out")
    if isinstance(swept, ChoiceSweep) or not isinstance(swept, RangeSweep | IntervalSweep):
        if log:
            raise ValueError("log is for range and interval, not for a choice")
        return Choice(tuple(dict.fromkeys(str(value) for value in override.sweep_iterator(Transformer.encode))))
    if isinstance(swept, RangeSweep):
        numbers = list(swept.range())
        if not numbers:
            raise ValueError("there is no number in this range")
        low, high, step = min(numbers), max(numbers), abs(swept.step)
        found = Numbers(low, high, None if log else step, log)
        if log and (step != 1 or not isinstance(low, int)):
            raise ValueError("log and a step exclude each other; give an interval")
    else:
        assert swept.start is not None
        assert swept.end is not None
        found = Numbers(swept.start, swept.end, None, log)
    if found.low > found.high:
        raise ValueError(f"starts at {found.low} and ends at {found.high}; wanted the smaller one first")
    if log and found.low <= 0:
        raise ValueError(f"log is for numbers above 0, and it starts at {found.low}")
    return found
