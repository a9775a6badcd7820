"""Online adversarial feature-map distillation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Few, NetworkName, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.losses import kd, same_size
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What a critic descends, from its scores [B] of the peer's maps and of the network's own (least squares)."""
    return (1 - real).square().mean() + fake.square().mean()


def network_loss(fake: Tensor) -> Tensor:
    """What a network descends that wants its maps to be taken for its peer's, from the critic's scores [B]."""
    return (1 - fake).square().mean()


class Critic(nn.Module):
    """Tells whose maps [B, C, H, W] it sees: 1 for the peer's, 0 for the network's own.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]
        self.layers, self.score = nn.Sequential(*layers), nn.Linear(channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Scores [B] from 0 to 1."""
        return torch.sigmoid(self.score(self.layers(maps).mean(dim=(2, 3)))).squeeze(1)


class AFDOnline(Mutual):
    """Train networks side by side that match each other's answers and fool critics of their maps (Chung et al. 2020).

    Each network learns from the one before it, the first from the last; of two, each from the other. In each step all
    first learn from labels and softened answers; then, from a second pass, each network's critic learns to tell its last
    map from that of the network it learns from, and the network to be mistaken for it, by an optimizer of its own.
    An approximation: the critics' layers and the second optimizer's values are not checked against the authors' code,
    and maps of two sizes are averaged to the smaller.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        temperature: softens all answers.
        kd_weight: of the divergence from the other's answers.
        feature_weight: of what fooling the critic counts; 0 leaves critics out altogether.
        feature_lr: learning rate, at its height, of critics and of what fools them (Adam).
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
        """Build a critic for each network, and a layer that brings its map to its peer's channels where they differ."""
        together = [networks.student, *networks.peers]
        own = [role.shapes.stages[-1][0] for role in together]
        wanted = [own[number - 1] for number in range(len(own))]
        place = networks.device
        self.transfers = nn.ModuleList([
            nn.Identity() if before == after else nn.Sequential(
                nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in zip(own, wanted, strict=True)]).to(place)
        self.critics = nn.ModuleList([Critic(channels) for channels in wanted]).to(place)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Each network, its critic, and what fools the critic: the network again, with its transfer layer."""
        found: dict[str, Sequence[nn.Module]] = {role.name: [role] for role in (networks.student, *networks.peers)}
        if self.feature_weight == 0:
            return found
        for number, role in enumerate((networks.student, *networks.peers)):
            found |= {f"{role.name}'s critic": [self.critics[number]],
                      f"{role.name}'s maps": [role, self.transfers[number]]}
        return found

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's for answers, Adam for critics and maps."""
        if player.endswith(("'s critic", "'s maps")):
            return torch.optim.Adam(weights, lr=self.feature_lr, weight_decay=self.feature_decay)
        return recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The answers of all; then critic and maps of each."""
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
            critic = self.critics[number]
            fake, real = same_size(self.transfers[number](shown[number]), shown[number - 1].detach())
            yield f"{role.name}'s critic", {"critic": critic_loss(critic(real), critic(fake.detach()))}
            yield f"{role.name}'s maps", {"fooling": self.feature_weight * network_loss(critic(fake))}
