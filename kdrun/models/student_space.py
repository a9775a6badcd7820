"""Which students a search may choose from, and what a student may cost at most."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from statistics import median
from typing import Annotated, Any, Final, NamedTuple, Self

import torch
from torch import nn

from kdrun.config.constraints import AtLeastOne, Bounds, Layers, Positive, annotations, closest, misfit
from kdrun.models.factory import NetworkSpec
from kdrun.models.searchable import Family, SearchableNet
from kdrun.utils.wording import formatted

__all__ = ["Architecture", "Cost", "StudentSpace", "latency_ms"]

TARGET: Final = f"{SearchableNet.__module__}.{SearchableNet.__qualname__}"
PASSES, WARM = 21, 3  # of a measurement of latency, and before it
Side = Annotated[int, Bounds(least=1, most=31)]


class Cost(NamedTuple):
    """What a network costs.

    Attributes:
        parameters: how many.
        flops: of one sample; None where they were not counted.
        latency_ms: of one sample in milliseconds, where it was measured.
    """

    parameters: int
    flops: int | None = None
    latency_ms: float | None = None

    def beside(self, other: "Cost") -> "Cost":
        """What both cost together."""
        def both(one: float | None, two: float | None) -> Any:
            return None if one is None or two is None else one + two

        return Cost(self.parameters + other.parameters, both(self.flops, other.flops),
                    both(self.latency_ms, other.latency_ms))


def latency_ms(network: nn.Module, example: Any) -> float:
    """How long a network takes for a sample in evaluation mode: the median of some passes, in milliseconds."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    place = next(network.parameters()).device

    def passed() -> float:
        began = time.perf_counter()
        network(example)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return 1000 * (time.perf_counter() - began)

    with torch.inference_mode():
        times = [passed() for _ in range(WARM + PASSES)][WARM:]
    for module, training in modes:
        module.training = training
    return median(times)


@dataclass(frozen=True)
class Architecture:
    """A student of the space: the arguments of `SearchableNet`."""

    family: Family
    stem: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    blocks: tuple[tuple[str, ...], ...]

    @property
    def settings(self) -> dict[str, Any]:
        """Its arguments, as a configuration has them."""
        return {"family": self.family, "stem": self.stem, "widths": list(self.widths), "strides": list(self.strides),
                "blocks": [list(kinds) for kinds in self.blocks]}

    @property
    def spec(self) -> NetworkSpec:
        """What builds it."""
        return NetworkSpec(str(self), {"_target_": TARGET, **self.settings})

    @classmethod
    def read(cls, node: Mapping[str, Any]) -> "Architecture | None":
        """From the settings of a network; None where it is another one."""
        if node.get("_target_") != TARGET:
            return None
        return cls(node["family"], node["stem"], tuple(node["widths"]), tuple(node["strides"]),
                   tuple(tuple(kinds) for kinds in node["blocks"]))

    def __str__(self) -> str:
        stages = [f"{width}:{'+'.join(kinds)}" for width, kinds in zip(self.widths, self.blocks, strict=True)]
        return f"{self.family} {' '.join(stages)}"


@dataclass(frozen=True)
class StudentSpace:
    """The students that a search may choose from: for each a family and a multiplier of its widths, for each stage a number
    of blocks, a kind of convolution and a kernel.

    Attributes:
        families: of `SearchableNet`.
        stem: channels of its first convolution at the multiplier 1.
        widths: channels of its stages, likewise.
        strides: of the stages.
        depths: numbers of blocks that a stage may have.
        multipliers: of all widths.
        convs: kinds of convolutions.
        kernels: sides of these; a shift has its own.
        max_params: the most parameters; None for any number.
        max_flops: the most floating-point operations for a sample.
        max_latency_ms: the most milliseconds for a sample.
    """

    families: list[Family]
    stem: AtLeastOne
    widths: list[AtLeastOne]
    strides: list[AtLeastOne]
    depths: list[Layers]
    multipliers: list[Positive]
    convs: list[str]
    kernels: list[Side]
    max_params: AtLeastOne | None
    max_flops: AtLeastOne | None
    max_latency_ms: Positive | None

    @classmethod
    def read(cls, node: Mapping[str, Any], place: str = "space") -> Self:
        """From settings.

        Args:
            node: of a config of space/.
            place: what they are called.

        Raises:
            ValueError: with a line for each that is wrong.
        """
        wanted, known = annotations(cls), [one.name for one in fields(cls)]
        lines = [f"{place}: unknown key '{key}'{closest(key, known)}" for key in node if key not in known]
        lines += [f"{place}.{key} is not set; choose a space, as space=small" for key in known if key not in node]
        lines += [f"{place}.{key}: got {formatted(node[key])}, wanted {reason}" for key in known
                  if key in node and (reason := misfit(node[key], wanted[key]))]
        lines += [f"{place}.{key}: got [], wanted at least one" for key in known if node.get(key) == []]
        if not lines and len(node["widths"]) != len(node["strides"]):
            lines.append(f"{place}: widths has {len(node['widths'])} stages, strides {len(node['strides'])}")
        if lines:
            raise ValueError("\n".join(lines))
        return cls(**node)

    @cached_property
    def kinds(self) -> list[str]:
        """Every kind of convolution with every kernel, by the names of `kdrun.models.convolutions`."""
        return list(dict.fromkeys(conv if side == 3 or conv == "shift" else f"{conv}_k{side}"
                                  for conv in self.convs for side in self.kernels))

    @cached_property
    def choices(self) -> dict[str, Sequence[Any]]:
        """What is chosen, by name, and from what."""
        stages = range(1, len(self.widths) + 1)
        return {"family": self.families, "multiplier": self.multipliers,
                **{f"depth_{stage}": self.depths for stage in stages}, **{f"kind_{stage}": self.kinds for stage in stages}}

    @property
    def count(self) -> int:
        """How many students there are."""
        return math.prod(len(values) for values in self.choices.values())

    def architecture(self, chosen: Mapping[str, Any]) -> Architecture:
        """The student of these choices."""
        def times(width: int) -> int:
            return max(1, round(chosen["multiplier"] * width))

        stages = range(1, len(self.widths) + 1)
        return Architecture(chosen["family"], times(self.stem), tuple(times(width) for width in self.widths),
                            tuple(self.strides),
                            tuple((chosen[f"kind_{stage}"],) * chosen[f"depth_{stage}"] for stage in stages))

    def draw(self, random: torch.Generator) -> Architecture:
        """A student, each choice by chance."""
        return self.architecture({name: values[int(torch.randint(len(values), (), generator=random))]
                                  for name, values in self.choices.items()})

    def excess(self, cost: Cost) -> str | None:
        """By what a student is over its budget, in a few words; None where it is within."""
        return next((f"{value:,.4g} {words}, over {name}={most}" for value, words, name, most in self.compared(cost)
                     if value is not None and value > most), None)

    def compared(self, cost: Cost) -> Iterator[tuple[float | None, str, str, float]]:
        """What a student costs, and the bounds that there are."""
        for value, words, name in ((cost.parameters, "parameters", "max_params"), (cost.flops, "FLOPs", "max_flops"),
                                   (cost.latency_ms, "ms", "max_latency_ms")):
            if (most := getattr(self, name)) is not None:
                yield value, words, name, most
