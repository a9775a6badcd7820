"""Online adversarial feature-map distillation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from kdrun.config.constraints import Few, NetworkName, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.adversarial.discriminators import MapDiscriminator
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.losses import kd, same_size
from kdrun.methods.losses.adversarial import lsgan_discriminator, lsgan_student
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks


class AFDOnline(Mutual):
    """Train networks side by side that match each other's answers and fool discriminators of maps (Chung et al. 2020).

    Each network learns from the one before it, the first from the last; of two, each from the other. In each step all
    first learn from labels and softened answers; then, from a second pass, each network's discriminator learns to tell its
    last map from that of the network it learns from, and the network to be mistaken for it, by an optimizer of its own.
    An approximation: the discriminators' layers and the second optimizer's values are not checked against the authors'
    code, and maps of two sizes are averaged to the smaller.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        temperature: softens all answers.
        kd_weight: of the divergence from the other's answers.
        feature_weight: of what fooling the discriminator counts; 0 leaves discriminators out altogether.
        feature_lr: learning rate, at its height, of discriminators and of what fools them (Adam).
        feature_decay: weight decay of both.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    shares_parameters: ClassVar[bool] = True  # answers and maps move the same network, each by an optimizer of its own
    needs = ("maps",)
    knowledge = ("response", "feature")
    source = "Chung, Park, Kim, Kwak: Feature-map-level online adversarial knowledge distillation. ICML 2020"
    survey_scheme = "online"
    survey_tables = ("Gou section 6.1", "Alkhulaifi 2")

    def __init__(self, *, peers: Few | list[NetworkName], temperature: Positive, kd_weight: NonNegative,
                 feature_weight: NonNegative, feature_lr: Positive, feature_decay: NonNegative) -> None:
        super().__init__(peers=peers)
        self.temperature, self.kd_weight, self.feature_weight = temperature, kd_weight, feature_weight
        self.feature_lr, self.feature_decay = feature_lr, feature_decay

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a discriminator for each network, and a layer that brings its map to its peer's channels where they differ."""
        together = [networks.student, *networks.peers]
        own = [role.shapes.stages[-1][0] for role in together]
        wanted = [own[number - 1] for number in range(len(own))]
        place = networks.device
        self.transfers = nn.ModuleList([
            nn.Identity() if before == after else nn.Sequential(
                nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in zip(own, wanted, strict=True)]).to(place)
        self.discriminators = nn.ModuleList([MapDiscriminator(channels) for channels in wanted]).to(place)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Each network, its discriminator, and what fools the discriminator: the network again, with its transfer layer."""
        found: dict[str, Sequence[nn.Module]] = {role.name: [role] for role in (networks.student, *networks.peers)}
        if self.feature_weight == 0:
            return found
        for number, role in enumerate((networks.student, *networks.peers)):
            found |= {f"{role.name}'s discriminator": [self.discriminators[number]],
                      f"{role.name}'s maps": [role, self.transfers[number]]}
        return found

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's for answers, Adam for discriminators and maps."""
        if player.endswith(("'s discriminator", "'s maps")):
            return torch.optim.Adam(weights, lr=self.feature_lr, weight_decay=self.feature_decay)
        return recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The answers of all; then discriminator and maps of each."""
        together = [networks.student, *networks.peers]
        said = [role(batch).logits.detach() for role in together]
        for number, role in enumerate(together):
            own = role(batch)
            yield role.name, {"ce": self.label_loss(own, batch),
                              "kd": self.kd_weight * kd(said[number - 1], own.logits, self.temperature)}
        if self.feature_weight == 0:
            return
        shown = [role(batch, fresh=True).stages[-1] for role in together]  # the answers' updates have moved all
        for number, role in enumerate(together):
            discriminator = self.discriminators[number]
            fake, real = same_size(self.transfers[number](shown[number]), shown[number - 1].detach())
            scores = (discriminator(maps).sigmoid() for maps in (real, fake.detach()))
            yield f"{role.name}'s discriminator", {"discriminator": lsgan_discriminator(*scores)}
            yield f"{role.name}'s maps", {"fooling": self.feature_weight * lsgan_student(discriminator(fake).sigmoid())}
