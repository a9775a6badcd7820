"""Networks that kdrun did not write, listened to where their stages end; their own code stays as it is."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdrun.config.constraints import AtLeastOne
from kdrun.models import tracing
from kdrun.models.output import ModelOutput

__all__ = ["Tapped"]

SIZES = (32, 64, 96, 128, 224, 256, 299, 384, 512)  # of pictures, tried to say which would do


class Tapped(nn.Module):
    """Any network that answers pictures with logits, made to show its stages, its embedding and what comes before.

    Stages end at the modules that are named, or else at the last part before each change of resolution (of pictures of
    224x224, where the network takes them, so that they are the same for pictures of every size). `preacts` are what goes
    into the activation module that ends a stage, whichever it is; where a stage ends in none, they are its maps
    themselves. The embedding is what the classifier is given. Maps with channels last and tokens of a transformer are
    turned into maps [B, C, H, W].

    Nothing can branch off the middle of such a network, so methods that need it (BYOT, ONE, OKDDip) refuse it.

    Args:
        network: answers pictures [B, C, H, W] with logits [B, K].
        stages: the modules that end them, by name (layer1, features.4, ...), in the order in which they run; null finds
            them, and an empty list shows none.
        size: pictures are first enlarged to so many pixels each way; null leaves them as they are.
        classes: how many classes.
        channels: of the pictures.
        shape: (channels, height, width) of the pictures.

    Raises:
        ValueError: a stage that is not there, or pictures that the network does not take.
    """

    def __init__(self, *, network: nn.Module, stages: list[str] | None, size: AtLeastOne | None, classes: int, channels: int,
                 shape: tuple[int, int, int]) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"network: got a {type(network).__name__}, wanted a torch.nn.Module")
        self.wrapped, self.size, self.channels, self.classes = network, size, channels, classes
        self.sides: tuple[int, int] = (size, size) if size else (shape[1], shape[2])
        try:
            seen = self.trace(*self.sides)
        except Exception as error:  # a network may fail in any way on pictures that do not suit it
            raise ValueError(self.unsuited(error)) from error
        try:
            large = self.trace(tracing.LARGE, tracing.LARGE) if max(self.sides) < tracing.LARGE else seen
        except Exception:  # it takes the pictures as they are, and no larger ones
            large = seen
        self.plan = tracing.plan(large, classes, stages)
        for name in filter(None, self.plan.activations):  # in place it would change the map before it, which is kept
            activation: Any = network.get_submodule(name)
            if getattr(activation, "inplace", False):
                activation.inplace = False

    def trace(self, height: int, width: int) -> tracing.Trace:
        """What the network does with pictures of a size."""
        return tracing.trace(self.wrapped, self.channels, height, width)

    def unsuited(self, error: Exception) -> str:
        """A line on pictures that the network does not take, and on those that it does."""
        reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        told = "x".join(map(str, self.sides))
        for size in SIZES:
            try:
                self.trace(size, size)
            except Exception:  # this one neither
                continue
            return f"it does not take pictures of {told} ({reason}); give size={size}, which enlarges them"
        return f"it fails on pictures of {self.channels}x{told}: {reason}"

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        if self.size:
            pictures = interpolate(pictures, (self.size, self.size), mode="bilinear", antialias=False)
        taps = Taps(self.wrapped, self.plan, pictures)
        try:
            logits = self.wrapped(pictures)
        finally:
            taps.remove()
        if not isinstance(logits, Tensor):
            raise ValueError(f"it answers with a {type(logits).__name__}; wanted logits [B, K]")
        return taps.output(logits)

    def until(self, stage: int) -> list[nn.Module]:
        """The parts that lead to the end of a stage, counted from 1: what a hint at that stage trains.

        Found by which parameters its map depends on.
        """
        owners = tracing.ownership(self.trace(*self.sides), self.plan.stages)
        return tracing.parts(self.wrapped, owners, len(self.plan.stages))[:stage]


class Taps:
    """Listens to one pass of a network.

    Args:
        network: whose pass.
        plan: where to listen.
        pictures: what it is given.
    """

    def __init__(self, network: nn.Module, plan: tracing.Plan, pictures: Tensor) -> None:
        self.plan = plan
        self.stem: Tensor = pictures
        self.embedding: Tensor | None = None
        self.before: dict[str, Tensor] = {}
        self.maps: dict[str, tuple[Tensor, Tensor]] = {}
        self.handles: list[Any] = []
        for name in filter(None, plan.activations):
            self.handles.append(network.get_submodule(name).register_forward_pre_hook(self.keep(name)))
        for number, name in enumerate(plan.stages):
            self.handles.append(network.get_submodule(name).register_forward_hook(self.end(number)))
        if plan.entry:
            self.handles.append(network.get_submodule(plan.entry).register_forward_pre_hook(self.enter))
        if plan.head:
            self.handles.append(network.get_submodule(plan.head).register_forward_pre_hook(self.embed))

    def keep(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """Keep what an activation is given."""
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            self.before[name] = given[0]
        return hook

    def end(self, number: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        """Keep the map at the end of a stage, and the one before its activation."""
        name, activation = self.plan.stages[number], self.plan.activations[number]

        def hook(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            maps = output.clone() if self.plan.changed[number] else output
            before = self.before[activation] if activation else maps
            layout = self.plan.layouts[number]
            self.maps[name] = (tracing.as_map(maps, layout), tracing.as_map(before, layout))
        return hook

    def enter(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Keep the map before the first stage."""
        self.stem = tracing.as_map(given[0], self.plan.entry_layout)

    def embed(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Keep what the classifier is given."""
        self.embedding = given[0].flatten(2).mean(dim=2) if given[0].ndim == 4 else given[0]

    def remove(self) -> None:
        """Listen no more."""
        for handle in self.handles:
            handle.remove()

    def output(self, logits: Tensor) -> ModelOutput:
        """What was heard."""
        stages, preacts = zip(*(self.maps[name] for name in self.plan.stages), strict=True) if self.plan.stages else ((), ())
        embedding = self.embedding
        if embedding is None:  # no layer of the network is its classifier
            embedding = stages[-1].mean(dim=(2, 3)) if stages else logits
        return ModelOutput(logits, embedding, tuple(stages), tuple(preacts), self.stem)


def replaced_head(network: nn.Module, name: str, classes: int) -> None:
    """Give a network a classifier for another number of classes, with first weights."""
    place, _, own = name.rpartition(".")
    old: Any = network.get_submodule(name)
    new = nn.Linear(old.in_features, classes, old.bias is not None) if isinstance(old, nn.Linear) else \
        nn.Conv2d(old.in_channels, classes, old.kernel_size, bias=old.bias is not None)
    setattr(network.get_submodule(place), own, new)


