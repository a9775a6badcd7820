"""Networks made from another one: some of its layers replaced, or others put behind them.

What is done to a network is noted with it, so that it can be built again from its description like any other.
"""

import copy
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor, nn

from kdrun.models.channels import Channels, channels_of, take_channels
from kdrun.models.description import COMPOSED, node_of
from kdrun.models.staged import FirstWeights, initialise

__all__ = ["appended", "edited", "narrowed", "replaced", "with_channels"]

ARGUMENTS: Final[dict[type[nn.Module], tuple[str, ...]]] = {
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups", "bias"),
    nn.BatchNorm2d: ("num_features", "eps", "momentum"), nn.Linear: ("in_features", "out_features", "bias"),
    nn.ReLU: (), nn.Identity: ()}
KINDS: Final = {kind.__name__: kind for kind in (*ARGUMENTS, nn.Sequential)}


def settings_of(layer: nn.Module) -> dict[str, Any]:
    """What a layer is built by: its kind, and its arguments or, of several, those of each."""
    if isinstance(layer, nn.Sequential):
        return {"kind": "Sequential", "layers": [settings_of(part) for part in layer]}
    given = {name: getattr(layer, name) for name in ARGUMENTS[type(layer)]}
    return {"kind": type(layer).__name__} | {
        name: value is not None if name == "bias" else list(value) if isinstance(value, tuple) else value
        for name, value in given.items()}


def layer_of(settings: Mapping[str, Any]) -> nn.Module:
    """A layer by its settings, with new weights."""
    kind = KINDS[settings["kind"]]
    if kind is nn.Sequential:
        return nn.Sequential(*(layer_of(part) for part in settings["layers"]))
    return kind(**{name: tuple(value) if isinstance(value, list) else value
                   for name, value in settings.items() if name != "kind"})


def replaced(network: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of a network with other layers in the place of some, by their names. All its weights can learn.

    Args:
        network: stays as it is.
        layers: convolutions, normalisations, linear layers, ReLUs, identities, and sequences of them.
    """
    return changed(network, layers, behind=False)


def appended(network: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of a network with layers put behind some of its parts, by the names of these: see `replaced`.

    A part becomes a sequence of what it was, now called `0`, and the layers.
    """
    return changed(network, layers, behind=True)


def narrowed(network: nn.Module, part: str, ratio: float) -> nn.Module:
    """A copy of a network in which the convolutions of a part have a share of their filters, with new weights.

    Where that leaves fewer channels to come out of the part, an activation and a 1x1 convolution behind it bring back their
    number. Channels that a shortcut brings from outside keep theirs.

    Args:
        network: one of `channels_of`.
        part: the name of a stage.
        ratio: the share, above 0.

    Raises:
        ValueError: its channels cannot be followed.
    """
    sizes = {one: max(1, round(ratio * one.count)) for one in channels_of(network) if one.within(part)}
    made, seen = widths(sizes)
    layers = {name: resized(layer, seen.get(name), made.get(name)) for name, layer in network.named_modules()
              if name.startswith(f"{part}.") and isinstance(layer, nn.Conv2d | nn.BatchNorm2d)}
    leaving = next((one for one in sizes if any(not name.startswith(f"{part}.") for name in one.inputs)), None)
    behind: dict[str, nn.Module] = {}
    if leaving is not None and sizes[leaving] < leaving.count:
        behind[part] = nn.Sequential(nn.ReLU(), nn.Conv2d(sizes[leaving], leaving.count, 1))
    for new in (*layers.values(), *behind.values()):
        initialise(new, getattr(network, "first_weights", FirstWeights.HE))
    return appended(replaced(network, layers), behind)


def with_channels(network: nn.Module, chosen: Mapping[Channels, Tensor]) -> nn.Module:
    """A copy of a network that has some of its channels only, with the weights that it has for these.

    Args:
        network: one of `channels_of`.
        chosen: for some of its channels [C], which of them stay.
    """
    made, seen = widths({one: len(rows) for one, rows in chosen.items()})
    layers = {name: resized(network.get_submodule(name), seen.get(name), made.get(name)) for name in sorted({*made, *seen})}
    smaller = replaced(network, layers)
    take_channels(smaller, network, chosen, {name: name for name in layers})
    return smaller


def widths(sizes: Mapping[Channels, int]) -> tuple[dict[str, int], dict[str, int]]:
    """How many channels layers put out, and how many they see, by their names, where channels are of these sizes."""
    return ({name: size for one, size in sizes.items() for name in (*one.outputs, *one.norms)},
            {name: size for one, size in sizes.items() for name in one.inputs})


def resized(layer: nn.Module, seen: int | None, made: int | None) -> nn.Module:
    """A layer of the same kind with new weights that sees and puts out so many channels; None: as many as ever."""
    if isinstance(layer, nn.BatchNorm2d):
        wanted = {"num_features": made}
    else:
        wanted = {"in_features": seen, "out_features": made} if isinstance(layer, nn.Linear) else \
            {"in_channels": seen, "out_channels": made}
    return layer_of({**settings_of(layer), **{name: count for name, count in wanted.items() if count is not None}})


def changed(network: nn.Module, layers: Mapping[str, nn.Module], behind: bool) -> nn.Module:
    """Do so, and note it."""
    made = copy.deepcopy(network).requires_grad_(True)
    for name, layer in layers.items():
        put(made, name, layer, behind)
    if (node := node_of(network)) is not None:
        known = node["_target_"] == TARGET
        before: dict[str, Any] = node if known else {"_target_": TARGET, COMPOSED: True, "network": node, "edits": []}
        edits = [{"name": name, "layer": settings_of(layer), "behind": behind} for name, layer in layers.items()]
        made.built_from = before | {"edits": before["edits"] + edits}  # type: ignore[assignment]
    return made


def put(network: nn.Module, name: str, layer: nn.Module, behind: bool) -> None:
    """Put a layer into the place of another, or behind it."""
    above, _, own = name.rpartition(".")
    holder = network.get_submodule(above)
    setattr(holder, own, nn.Sequential(holder.get_submodule(own), layer) if behind else layer)


def edited(network: nn.Module, edits: list[Mapping[str, Any]]) -> nn.Module:
    """The network itself, changed as edits say: what builds one again.

    Args:
        network: changed in place.
        edits: of each the name of the part, the settings of the layer and whether it comes behind that part.
    """
    for edit in edits:
        put(network, edit["name"], layer_of(edit["layer"]), edit["behind"])
    return network


TARGET: Final = f"{__name__}.{edited.__name__}"
