"""What happens inside a network that kdrun did not write: found by running it on pictures that have a shape and no values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdrun.config.constraints import closest

__all__ = ["Layout", "Plan", "Trace", "as_map", "ownership", "parts", "plan", "trace"]

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
               nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Softplus)
LARGE = 224  # at this size every stage of a network for large pictures has a resolution of its own

Layout = Literal["channels first", "channels last", "tokens"]


def layout_of(output: object) -> Layout | None:
    """How the answer of a module to square pictures is laid out; None where it is no map."""
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4:
        first = output.shape[2] == output.shape[3]
        return "channels first" if first else "channels last" if output.shape[1] == output.shape[2] else None
    return "tokens" if output.ndim == 3 else None


def as_map(output: Tensor, layout: Layout) -> Tensor:
    """The answer of a module as maps [B, C, H, W]; tokens [B, N, C] are a square, with those that stand for no place first."""
    if layout == "channels first":
        return output
    if layout == "channels last":
        return output.permute(0, 3, 1, 2)
    side = isqrt(output.shape[1])
    return output[:, -side * side:].transpose(1, 2).unflatten(2, (side, side))


@dataclass(frozen=True)
class Call:
    """One module having answered.

    Attributes:
        name: of the module within the network.
        inputs: the first thing it was given.
        output: what it answered.
        version: how often the output had been changed in place by then.
    """

    name: str
    inputs: object
    output: object
    version: int


@dataclass
class Trace:
    """Everything the modules of a network said, in the order in which they were done.

    Attributes:
        modules: by name.
        calls: of all of them.
        weights: what stood for the parameters, by name.
        side: of the pictures.
    """

    modules: dict[str, nn.Module]
    weights: dict[str, Tensor]
    side: int
    calls: list[Call] = field(default_factory=list)

    def last(self, name: str) -> Call | None:
        """What a module said last; None if it was never asked."""
        return next((call for call in reversed(self.calls) if call.name == name), None)

    @cached_property
    def within(self) -> dict[str, list[str]]:
        """For each module that was asked the parts of it that answered with maps, in the order in which they were done."""
        asked = {call.name for call in self.calls}
        found: dict[str, dict[str, None]] = {}
        for call in self.calls:
            above = call.name
            while above and layout_of(call.output):
                above = above.rpartition(".")[0]
                if above in asked:  # a list of modules is never asked itself
                    found.setdefault(above, {})[call.name] = None
                    break
        return {name: list(parts) for name, parts in found.items()}

    def children(self, name: str) -> list[str]:
        """The parts of a module that answered with maps, in the order in which they were done."""
        return self.within.get(name, [])

    def side_of(self, name: str) -> int:
        """How wide the map is that a module answered with."""
        call = self.last(name)
        assert call is not None
        assert isinstance(call.output, Tensor)
        layout = layout_of(call.output)
        assert layout is not None
        return as_map(call.output, layout).shape[-1]


def trace(network: nn.Module, channels: int, height: int, width: int) -> Trace:
    """Run a network in evaluation mode on two pictures without values; its own weights are not touched.

    Raises:
        Exception: whatever the network does with pictures that do not suit it.
    """
    weights = {name: torch.empty_like(weight, device="meta").requires_grad_(weight.is_floating_point())
               for name, weight in network.named_parameters()}
    buffers = {name: torch.empty_like(buffer, device="meta") for name, buffer in network.named_buffers()}
    seen = Trace(dict(network.named_modules()), weights, height)

    def note(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def after(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            version = output._version if isinstance(output, Tensor) else 0
            seen.calls.append(Call(name, inputs[0] if inputs else None, output, version))
        return after

    hooks = [module.register_forward_hook(note(name)) for name, module in seen.modules.items()]
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        torch.func.functional_call(network, {**weights, **buffers}, (torch.zeros(2, channels, height, width, device="meta"),))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return seen


def head_of(seen: Trace, classes: int) -> str | None:
    """The last layer with weights that answers with a value a class: the classifier."""
    for call in reversed(seen.calls):
        module = seen.modules[call.name]
        if isinstance(module, nn.Linear | nn.Conv2d) and isinstance(call.output, Tensor) and \
                classes in (call.output.shape[1], call.output.shape[-1]):
            return call.name
    return None


def plain(module: nn.Module) -> bool:
    """Whether it is a layer, or layers one after the other, with no structure of their own."""
    if isinstance(module, nn.Sequential):
        return all(plain(child) for child in module)
    return all(not list(child.children()) or isinstance(child, _BatchNorm) for child in module.children())


def units(seen: Trace, head: str | None) -> list[str]:
    """The parts of the trunk, one after the other: whatever holds several resolutions is taken apart."""
    def apart(name: str) -> list[str]:
        parts = [part for part in seen.children(name)
                 if head is None or not (part == head or head.startswith(f"{part}."))]
        found = []
        for part in parts:
            sides = {seen.side_of(inner) for inner in seen.children(part)}
            alone = len(parts) == 1 and sides
            found += apart(part) if alone or len(sides) > 2 else [part]
        return found
    return apart("")


def found_stages(seen: Trace, head: str | None) -> tuple[list[str], str | None]:
    """The last part of a network before each change of resolution, and the part where the first stage starts.

    A strided convolution with its normalisation and activation, from the pictures on, is the stem and no stage. Parts
    after the last that has weights or activates (pooling, dropout) belong to no stage.
    """
    runs: list[list[str]] = []
    for unit in units(seen, head):
        side = seen.side_of(unit)
        if runs and side == 1 and seen.side_of(runs[-1][0]) > 2:
            break  # no halving: all places were averaged
        if runs and side * 1.5 > seen.side_of(runs[-1][0]):  # unpadded convolutions lose a pixel or two
            runs[-1].append(unit)
        else:
            runs.append([unit])

    def weighs(unit: str) -> bool:
        return any(True for _ in seen.modules[unit].parameters())

    def counts(unit: str) -> bool:
        return weighs(unit) or isinstance(seen.modules[unit], ACTIVATIONS)

    runs = [run for run in runs if any(weighs(unit) for unit in run)]
    if len(runs) > 1 and seen.side_of(runs[0][0]) < seen.side and all(plain(seen.modules[unit]) for unit in runs[0]):
        runs = runs[1:]
    if not runs:
        return [], None
    entry = next((unit for unit in runs[0] if not plain(seen.modules[unit])),
                 next(unit for unit in runs[0] if weighs(unit)))
    return [next(unit for unit in reversed(run) if counts(unit)) for run in runs], entry


@dataclass(frozen=True)
class Plan:
    """Where to listen in a network.

    Attributes:
        stages: the modules that end them.
        layouts: of what each answers.
        activations: the module that makes each stage's answer from the map before its activation; None where there is none.
        changed: for each stage, whether later parts change its map in place.
        entry: the module whose input is the map before the first stage; None where that is the picture.
        entry_layout: of that input.
        head: the classifier; None where there is none.
    """

    stages: tuple[str, ...]
    layouts: tuple[Layout, ...]
    activations: tuple[str | None, ...]
    changed: tuple[bool, ...]
    entry: str | None
    entry_layout: Layout
    head: str | None


def plan(seen: Trace, classes: int, stages: Sequence[str] | None) -> Plan:
    """Where to listen, for stages that are named or, where they are not, found.

    Raises:
        ValueError: a module that is not there, or gives no map, or comes before the one named before it.
    """
    head = head_of(seen, classes)
    stages, entry = found_stages(seen, head) if stages is None else (stages, stages[0] if stages else None)
    ends: list[str] = []
    layouts: list[Layout] = []
    activations: list[str | None] = []
    changed: list[bool] = []
    last = -1
    for name in stages:
        call = seen.last(name) if name in seen.modules and name else None
        if name not in seen.modules or not name:
            outer = [known for known in seen.modules if known.count(".") <= name.count(".") and known]
            raise ValueError(f"stages: it has no module '{name}'" + (closest(name, outer) or
                             f"; it has {', '.join(known for known in outer if '.' not in known)}"))
        layout = layout_of(call.output) if call else None
        if call is None or layout is None:
            shape = f"answers with {list(call.output.shape)}" if call and isinstance(call.output, Tensor) else \
                "answers with no tensor" if call else "is never asked"
            raise ValueError(f"stages: module '{name}' {shape}; wanted one that answers with a map [B, C, H, W]")
        place = seen.calls.index(call)
        if place <= last:
            raise ValueError(f"stages: module '{name}' is done before '{ends[-1]}'; name them in the order in which they run")
        last = place
        ends.append(name)
        layouts.append(layout)
        activations.append(next((made.name for made in seen.calls[:place + 1] if made.output is call.output
                                 and isinstance(seen.modules[made.name], ACTIVATIONS)), None))
        changed.append(isinstance(call.output, Tensor) and call.output._version > call.version)
    start = seen.last(entry) if entry else None
    given = layout_of(start.inputs) if start else None
    return Plan(tuple(ends), tuple(layouts), tuple(activations), tuple(changed), entry if given else None,
                given or "channels first", head)


def ownership(seen: Trace, stages: Sequence[str]) -> dict[str, int]:
    """For each parameter the first stage, counted from 0, whose map depends on it; those that come later are left out."""
    found: dict[str, int] = {}
    for number, name in enumerate(stages):
        call = seen.last(name)
        assert call is not None
        assert isinstance(call.output, Tensor)
        rest = {key: weight for key, weight in seen.weights.items() if key not in found and weight.requires_grad}
        slopes = torch.autograd.grad(call.output.sum(), list(rest.values()), retain_graph=True, allow_unused=True)
        found |= {key: number for key, slope in zip(rest, slopes, strict=True) if slope is not None}
    return found


def parts(network: nn.Module, owners: dict[str, int], count: int) -> list[nn.Module]:
    """The network cut into the modules that belong to each stage and no other; what modules share is cut within."""
    found: list[list[nn.Module]] = [[] for _ in range(count)]

    def sort(module: nn.Module, place: str) -> None:
        own = {owners.get(f"{place}{name}") for name, _ in module.named_parameters()}
        if len(own) == 1 and (owner := own.copy().pop()) is not None:
            found[owner].append(module)
        elif own - {None}:
            for name, weight in module.named_parameters(recurse=False):
                if (owner := owners.get(f"{place}{name}")) is not None:
                    found[owner].append(nn.ParameterList([weight]))
            for name, child in module.named_children():
                sort(child, f"{place}{name}.")
    sort(network, "")
    return [nn.ModuleList(modules) for modules in found]

