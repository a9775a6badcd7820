"""Which layers of a network share channels: what has to change together when some are left out or added."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdrun.models.plain import Flatten
from kdrun.models.resnet import BasicBlock, BottleneckBlock
from kdrun.models.staged import Chain, StagedNet
from kdrun.models.vgg import Pool
from kdrun.models.wrn import PreactBlock

__all__ = ["Channels", "channels_of", "layer_output", "strongest", "take_channels"]

PASSING = (nn.ReLU, nn.Identity, nn.Dropout, Pool)
SUITED = "resnet*, wrn_*, vgg* and cnn* are built of layers that it follows"


@dataclass(eq=False)
class Channels:
    """Channels that several layers have in common, by the names of these in the order in which they are asked.

    Attributes:
        count: how many.
        outputs: whose outputs they are; empty for those of the pictures.
        inputs: whose inputs they are.
        norms: the normalisations that they pass.
    """

    count: int
    outputs: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)

    def within(self, part: str) -> bool:
        """Whether all of them are made within a part of the network, so that they may change without the rest."""
        return bool(self.outputs) and all(name.startswith(f"{part}.") for name in self.outputs)


class Walk:
    """A way through a network, along which layers are put to the channels that they see and make."""

    def __init__(self) -> None:
        self.found: list[Channels] = []

    def made(self, name: str, count: int) -> Channels:
        """New channels, that a layer puts out."""
        self.found.append(Channels(count, [name]))
        return self.found[-1]

    def through(self, module: nn.Module, name: str, seen: Channels) -> Channels:
        """The channels that a module answers with, given those that it sees.

        Raises:
            ValueError: it is none of those that are known.
        """
        if isinstance(module, nn.Conv2d | nn.Linear) and getattr(module, "groups", 1) == 1:
            seen.inputs.append(name)
            return self.made(name, len(module.weight))
        if isinstance(module, nn.BatchNorm2d):
            seen.norms.append(name)
            return seen
        if isinstance(module, PASSING):
            return seen
        if isinstance(module, nn.Sequential | Chain):
            for key, part in parts(module):
                seen = self.through(part, f"{name}.{key}", seen)
            return seen
        if isinstance(module, BasicBlock | BottleneckBlock):
            inner = ("first", "second", *(("third",) if isinstance(module, BottleneckBlock) else ()))
            made = seen
            for key in inner:
                made = self.through(getattr(module, key), f"{name}.{key}", made)
            return self.added(self.through(module.shortcut, f"{name}.shortcut", seen), made)
        if isinstance(module, PreactBlock):
            opened = self.through(module.opening, f"{name}.opening", seen)
            made = self.through(module.convolutions, f"{name}.convolutions", opened)
            return self.added(opened if module.shortcut is None else self.through(module.shortcut, f"{name}.shortcut", opened),
                              made)
        raise ValueError(f"it cannot follow the channels through {type(module).__name__} at {name}; {SUITED}")

    def added(self, shortcut: Channels, made: Channels) -> Channels:
        """The channels of a sum: both become the same."""
        self.found.remove(made)
        for name in ("outputs", "inputs", "norms"):
            getattr(shortcut, name).extend(getattr(made, name))
        return shortcut


def parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What is done one after the other in it, by name."""
    if isinstance(module, Chain):
        return ((f"blocks.{key}", part) for key, part in module.blocks.named_children())
    return module.named_children()


def channels_of(network: nn.Module) -> list[Channels]:
    """All channels of a network in the order in which they are made, those of its pictures first and its classes last.

    Raises:
        ValueError: it does not tell its stages apart, or is built of layers that are not known.
    """
    if not isinstance(network, StagedNet):
        raise ValueError(f"{type(network).__name__} does not tell its stages apart; {SUITED}")
    walk = Walk()
    seen = Channels(0)
    walk.found.append(seen)
    if isinstance(network.stem, Flatten):
        raise ValueError(f"it follows channels of maps, and this network flattens them; {SUITED}")
    seen = walk.through(network.stem, "stem", seen)
    for number, stage in enumerate(network.stages):
        seen = walk.through(stage, f"stages.{number}", seen)
    walk.through(network.head, "head", seen)
    return walk.found


def take_channels(target: nn.Module, source: nn.Module, chosen: Mapping[Channels, Tensor], names: Mapping[str, str],
                  copies: bool = False) -> None:
    """Give a network the weights of another of its form, channel by channel; statistics of normalisations too.

    Args:
        target: of which weights are changed.
        source: whose they are.
        chosen: for channels of the target [C] which of the source's each of them is; channels that are not named are all
            there, and the same in both.
        names: what the layers of the target that are to be changed are called in the source.
        copies: whether a channel may be chosen several times: what sees it has its weights divided by their number, so that
            its sums stay the same.
    """
    made, seen = ({name: rows for channels, rows in chosen.items() for name in part(channels)}
                  for part in (lambda one: [*one.outputs, *one.norms], lambda one: one.inputs))
    with torch.no_grad():
        for name, other in names.items():
            layer, given = target.get_submodule(name), source.get_submodule(other)
            own = dict(given.state_dict())
            if name in seen and isinstance(layer, nn.Conv2d | nn.Linear):
                rows = seen[name]
                weight = own["weight"][:, rows]
                if copies:
                    share = torch.bincount(rows, minlength=own["weight"].shape[1])[rows].to(weight)
                    weight = weight / share.view(1, -1, *[1] * (weight.ndim - 2))
                own["weight"] = weight
            if name in made:
                own = {key: value[made[name]] if value.ndim else value for key, value in own.items()}
            layer.load_state_dict(own)


def strongest(network: nn.Module, channels: Channels, count: int) -> Tensor:
    """Which channels to keep: those whose filters have the greatest sum of absolute weights, in their order."""
    weights = [network.get_submodule(name).weight.detach().flatten(1).abs().sum(dim=1)  # type: ignore[operator]
               for name in channels.outputs]
    return torch.stack(weights).sum(dim=0).topk(count).indices.sort().values


def layer_output(network: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """What a layer of a network answers with, of these inputs of the network."""
    heard: list[Tensor] = []
    hook = network.get_submodule(name).register_forward_hook(lambda _, __, output: heard.append(output.clone()))
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        hook.remove()
    return heard[-1]
