"""Rocket launching."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from kdrun.config.constraints import Count, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.models.roles import Networks, Role


def hint(booster: Tensor, light: Tensor) -> Tensor:
    """The squared distance of logits [B, K], summed over classes and averaged over samples (Zhou et al. 2018, eq. 1)."""
    return (light - booster).square().sum(dim=1).mean()


def form(layer: nn.Conv2d) -> tuple[object, ...]:
    """What two convolutions must have in common to be one."""
    return layer.weight.shape, layer.bias is None, layer.stride, layer.padding, layer.dilation, layer.groups


def share(light: Role, booster: Role, stages: int) -> int:
    """Let two networks use the same convolutions in their stems and first stages, and return how many they are.

    Convolutions pair up by their place in a stage; those of another shape stay apart, and so does all normalisation.
    """
    count = 0
    for own, other in zip(light.until(stages), booster.until(stages), strict=True):
        found = dict(other.named_modules())
        for place, layer in own.named_modules():
            twin = found.get(place)
            if isinstance(layer, nn.Conv2d) and isinstance(twin, nn.Conv2d) and form(layer) == form(twin):
                twin.weight, twin.bias = layer.weight, layer.bias
                count += 1
    return count


class Rocket(Method):
    """Train a light student and a booster that share convolutions, the light one hinted by the booster (Zhou et al. 2018).

    Both start together, and the booster leads all the way. Shared are the convolutions of the stem and the first blocks
    of each stage (the authors' `interval` form); normalisation is each network's own. The hint is on the logits before
    the softmax, and does not move what is the booster's alone (their gradient block).

    Args:
        booster: the name of a network of the student's kind, deeper.
        shared_stages: in how many stages convolutions are shared; 0 for the stem alone, null for nothing.
        hint_weight: of the squared distance of the logits.
        gradient_block: whether the hint leaves the booster alone.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("maps",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Zhou, Fan, Cui, Bian, Zhu, Gai: Rocket launching: a universal and efficient framework for training " \
             "well-performing light net. AAAI 2018"
    survey_scheme = "online"
    survey_tables = ("Gou 1", "Gou 5", "Gou 6", "Alkhulaifi 2")

    def __init__(self, *, booster: NetworkName, shared_stages: Count | None, hint_weight: NonNegative,
                 gradient_block: bool) -> None:
        super().__init__()
        self.booster, self.shared, self.hint_weight = booster, shared_stages, hint_weight
        self.gradient_block = gradient_block

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, after the booster has come."""
        run.networks.peers = [run.factory.named(self.booster, "booster")]
        yield from super().phases(run)

    def setup(self, networks: Networks, data: Data) -> None:
        """Share the convolutions.

        Raises:
            ValueError: there are not so many stages, or nothing fits.
        """
        student, booster = networks.student, networks.peers[0]
        if self.shared is None:
            return
        stages = min(len(role.shapes.stages) for role in (student, booster))
        if self.shared > stages:
            raise ValueError(f"method.shared_stages is {self.shared}, but student and booster have {stages} stages in common")
        if not share(student, booster, self.shared):
            raise ValueError(f"the booster {booster.model} has no convolution in common with the student {student.model}; "
                             "choose a method.booster of the student's kind and width, or method.shared_stages=null")

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """One: what is shared learns from both."""
        return {"student": [networks.student, *networks.peers, self]}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels for both, and the hint."""
        light, booster = networks.student(batch), networks.peers[0](batch)
        wanted = booster.logits.detach() if self.gradient_block else booster.logits
        return {"ce": self.label_loss(light, batch), "booster": self.label_loss(booster, batch),
                "hint": self.hint_weight * hint(wanted, light.logits)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student and the booster."""
        return {"student": networks.student, "booster": networks.peers[0]}
