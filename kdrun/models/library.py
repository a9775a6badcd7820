"""The networks of torchvision and timm."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, closest
from kdrun.models import tracing
from kdrun.models.output import ModelOutput
from kdrun.models.tapped import Tapped, replaced_head
from kdrun.utils.wording import formatted

__all__ = ["LibraryNetwork", "statistics_of"]

Library = Literal["torchvision", "timm"]
WITHOUT = "weights=null starts from new ones, and checkpoint=PATH (of a teacher) takes a file of your own"


class LibraryNetwork(Tapped):
    """A network of torchvision or timm by its name there, for this data's classes and channels.

    Its own weights are loaded where they are asked for; where they were trained on another number of classes the
    classifier starts anew. torchvision's networks see grey pictures three times over.

    Args:
        library: torchvision or timm.
        name: as the library calls it.
        weights: null for new ones; DEFAULT for the library's best; or another of its names for them (IMAGENET1K_V1 in
            torchvision, a tag such as a1_in1k in timm). They are downloaded once, and need a network for that.
        stages: the modules that end them, by name; null finds them.
        size: pictures are first enlarged to so many pixels each way; null leaves them as they are.
        classes: how many classes.
        channels: of the pictures.
        shape: (channels, height, width) of the pictures.

    Raises:
        ValueError: there is no such network, its weights are not to be had, or it does not take such pictures.
    """

    def __init__(self, *, library: Library, name: str, weights: str | None, stages: list[str] | None,
                 size: AtLeastOne | None, classes: int, channels: int, shape: tuple[int, int, int]) -> None:
        makers: dict[Library, Callable[..., tuple[nn.Module, int]]] = {"torchvision": of_torchvision, "timm": of_timm}
        network, seen = makers[library](name, weights, classes, channels)
        super().__init__(network=network, stages=stages, size=size, classes=classes, channels=seen, shape=shape)

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        return super().forward(pictures.expand(-1, self.channels, -1, -1))


def of_torchvision(name: str, weights: str | None, classes: int, channels: int) -> tuple[nn.Module, int]:
    """A classification network of torchvision, and how many channels it sees."""
    from kdrun.utils.vision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"name: torchvision has no network {formatted(name)}" +
                         (closest(name, known) or f"; it has {', '.join(known)}"))
    if channels not in (1, 3):
        raise ValueError(f"torchvision's networks see pictures of 1 or 3 channels, and these have {channels}")
    if weights is None:
        with warnings.catch_warnings():  # of another initialisation that two of them will have one day
            warnings.simplefilter("ignore", FutureWarning)
            return without_aids(models.get_model(name, num_classes=classes)), 3
    offered = models.get_model_weights(name)
    if weights not in offered.__members__:  # where DEFAULT is another name for one of them
        raise ValueError(f"weights: got {formatted(weights)}, wanted one of {', '.join(offered.__members__)} for {name}")
    chosen: Any = offered[weights]
    try:
        network = without_aids(models.get_model(name, weights=chosen))
    except (OSError, RuntimeError) as error:
        raise ValueError(undelivered("torchvision", name, weights, error)) from error
    learned = len(chosen.meta["categories"])
    if learned != classes:
        head = tracing.head_of(tracing.trace(network, 3, *chosen.transforms().crop_size * 2), learned)
        assert head is not None
        replaced_head(network, head, classes)
    return network, 3


def without_aids(network: nn.Module) -> nn.Module:
    """The network without the further classifiers that helped to train GoogLeNet and Inception."""
    if getattr(network, "aux_logits", False):
        aids: Any = network
        aids.aux_logits = False
        for name in [name for name, _ in network.named_children() if name.lower().startswith("aux")]:
            setattr(network, name, None)
    return network


def of_timm(name: str, weights: str | None, classes: int, channels: int) -> tuple[nn.Module, int]:
    """A network of timm, and how many channels it sees."""
    from kdrun.utils import vision

    assert vision  # timm imports torchvision, which has to be made importable first
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm is not installed; pip install 'kdrun[zoo]'") from error
    if not timm.is_model(name):
        raise ValueError(f"name: timm has no network {formatted(name)}" + (closest(name, timm.list_models()) or
                         f"; its {len(timm.list_models())} names are told by timm.list_models()"))
    tag = f"{name}.{weights}" if weights not in (None, "DEFAULT") else name
    tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    if (weights or "." in name) and tag.partition(".")[2] and tag not in tags:
        offered = ", ".join(one.partition(".")[2] for one in tags) or "none"
        raise ValueError(f"weights: got {formatted(weights)} for {name}, wanted DEFAULT or one of timm's: {offered}")
    try:
        return timm.create_model(tag, pretrained=weights is not None, num_classes=classes, in_chans=channels), channels
    except Exception as error:  # the hub raises errors of its own
        if weights is None:
            raise ValueError(f"timm cannot build {name}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
        raise ValueError(undelivered("timm", name, weights, error)) from error


def statistics_of(node: Mapping[str, Any]) -> dict[str, list[float]]:
    """The "mean" and "std" of each channel that a library's pretrained weights were trained with, as their card has them.

    Args:
        node: the settings of a network.

    Raises:
        ValueError: it is no pretrained network of a library, or there is no such network.
    """
    library, name, weights = node.get("library"), str(node.get("name")), node.get("weights")
    if library not in ("torchvision", "timm") or weights is None:
        raise ValueError("it has no pretrained weights of torchvision or timm (library, weights); give the numbers")
    if library == "torchvision":
        from kdrun.utils.vision import models

        offered = models.get_model_weights(name).__members__ if name in models.list_models(module=models) else {}
        if weights not in offered:
            raise ValueError(f"torchvision has no weights {formatted(weights)} of {name}")
        card: Any = offered[weights].transforms()
        return {"mean": list(card.mean), "std": list(card.std)}
    from kdrun.utils import vision

    assert vision  # timm imports torchvision, which has to be made importable first
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm is not installed; pip install 'kdrun[zoo]'") from error
    try:
        known: Any = timm.get_pretrained_cfg(name if weights == "DEFAULT" else f"{name}.{weights}")
    except RuntimeError:
        known = None
    if known is None:
        raise ValueError(f"timm has no weights {formatted(weights)} of {name}")
    return {"mean": list(known.mean), "std": list(known.std)}


def undelivered(library: str, name: str, weights: str, error: Exception) -> str:
    """A line on weights that could not be had."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return f"weights: {weights} of {library}'s {name} could not be downloaded or read ({reason}); {WITHOUT}"
