"""The kinds of number and choice a setting may be, as annotations that one checker reads.

A method writes `temperature: Positive` in its signature and needs no check of its own: every setting of every group
is compared with its annotation before anything is trained, and all that do not fit are reported together.
"""

import difflib
import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from kdrun.config import registry
from kdrun.utils import names

__all__ = ["AtLeastOne", "Bounds", "Count", "Epochs", "Few", "FileName", "Filled", "Fraction", "Known", "Layers",
           "NetworkName", "NonNegative", "Positive", "Proportion", "Turns", "annotations", "closest", "misfit"]


@dataclass(frozen=True)
class Bounds:
    """An interval of the real numbers; `above` and `below` are open ends, `least` and `most` closed ones."""

    above: float = -math.inf
    least: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.above < value < self.below and self.least <= value <= self.most

    def __str__(self) -> str:
        ends = [("above", self.above), ("at least", self.least), ("at most", self.most), ("below", self.below)]
        return " and ".join(f"{word} {end:,.0f}" if abs(end) >= 1e4 else f"{word} {end:g}"
                            for word, end in ends if math.isfinite(end))


@dataclass(frozen=True)
class Named:
    """A text that can be a file's name, or a part of one."""

    def __contains__(self, value: object) -> bool:
        return names.fits(value)


@dataclass(frozen=True)
class Filled:
    """A text that is not empty: as a path, an empty one would be the current folder."""

    def __contains__(self, value: str) -> bool:
        return bool(value.strip())


@dataclass(frozen=True)
class Known:
    """The name of a config of a group."""

    group: str

    def __contains__(self, value: str) -> bool:
        return value in registry.options(self.group)


def closest(word: str, words: Iterable[str]) -> str:
    """A hint at the nearest of the words, ready to be appended: "; did you mean 'x'?", or nothing."""
    def alike(known: str) -> tuple[float, int]:
        matcher = difflib.SequenceMatcher(None, known, str(word))
        start = matcher.get_matching_blocks()[0]
        return matcher.ratio(), start.size if start.a == start.b == 0 else 0  # of equals the one that starts the same

    near = max(map(str, words), key=alike, default="")
    return f"; did you mean '{near}'?" if near and alike(near)[0] >= 0.6 else ""


Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(least=0)]
Fraction = Annotated[float, Bounds(least=0, most=1)]
Proportion = Annotated[float, Bounds(least=0, below=1)]     # a share that leaves something over
AtLeastOne = Annotated[int, Bounds(least=1)]
Count = Annotated[int, Bounds(least=0)]
Epochs = Annotated[int, Bounds(least=0, most=1_000_000)]    # more than anybody waits for
Layers = Annotated[int, Bounds(least=1, most=10_000)]       # ten times those of the deepest networks that are published
Few = Annotated[int, Bounds(least=1, most=100)]             # of networks, or of trainings one after the other, in a run
Turns = Annotated[int, Bounds(least=1, most=1_000)]         # within one step of a training
NetworkName = Annotated[str, Known("model")]
FileName = Annotated[str, Named()]

LEAST, MOST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # of float32, in which everything is computed

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list", dict: "a group"}


def misfit(value: Any, kind: Any) -> str | None:
    """Say in a few words what `value` would have to be to fit the annotation `kind`; None where it fits."""
    origin = get_origin(kind)
    if kind is Any or (not isinstance(kind, type) and origin is None):
        return None
    if origin is Annotated:
        base, *notes = get_args(kind)
        if reason := misfit(value, base):
            return reason
        for note in notes:
            if isinstance(note, Bounds) and value not in note:
                return f"{NAMES[base]} {note}"
            if isinstance(note, Filled) and value not in note:
                return f"{NAMES[base]} that is not empty"
            if isinstance(note, Named) and value not in note:
                return names.WANTED
            if isinstance(note, Known) and value not in note:
                return f"the name of a {note.group}" + closest(value, registry.options(note.group))
        return None
    if origin is Literal:
        choices = get_args(kind)
        return None if value in choices else "one of " + ", ".join(map(str, choices))
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        options = get_args(kind)
        reasons = [misfit(value, option) for option in options]
        if None in reasons:
            return None
        return " or ".join("null" if option is type(None) else str(reason)
                           for option, reason in zip(options, reasons, strict=True))
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return NAMES[list]
        item = get_args(kind)[0]
        return next((f"a list, each {reason}" for entry in value if (reason := misfit(entry, item))), None)
    if kind is type(None):
        return None if value is None else "null"
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and \
            (value == 0 or LEAST <= abs(value) <= MOST)  # false for NaN
        if not fits and (type(value) is int or (isinstance(value, float) and math.isfinite(value))):
            return f"a number that float32 holds: from {LEAST:.2g} to {MOST:.2g} in size"
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        if fits and abs(value) >= 2**63:
            return "a whole number of at most 63 bits"
    elif kind in (bool, str, list, dict):
        fits = isinstance(value, kind)
    else:
        return None
    return None if fits else NAMES[kind]


def annotations(target: Any) -> dict[str, Any]:
    """The settings a function or class takes by name, with their annotations kept whole."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    return hints
