"""Players: whose weights each of them trains, by which optimizer, and who is in training mode meanwhile."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from kdrun.methods.base import Method, Run
from kdrun.models.roles import Frozen, Networks, Role

__all__ = ["continued", "modes", "own_parameters", "owners", "set_rate"]


def own_parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """What a player trains: the trainable parameters of its modules, each once."""
    found = {id(weight): weight for module in modules for weight in module.parameters() if weight.requires_grad}
    return list(found.values())


def owners(params: dict[str, list[nn.Parameter]], networks: Networks, shares_parameters: bool = False) -> dict[str, list[Role]]:
    """Which roles each player moves.

    Raises:
        ValueError: a player owns no parameter, or two own one and the method does not say so.
    """
    owner: dict[int, str] = {}
    for player, weights in params.items():
        if not weights:
            raise ValueError(f"player '{player}' has no parameter to train")
        for weight in weights:
            if owner.setdefault(id(weight), player) != player and not shares_parameters:
                raise ValueError(f"players '{owner[id(weight)]}' and '{player}' own the same parameter")
    ids = {player: {id(weight) for weight in weights} for player, weights in params.items()}
    return {player: [role for role in networks if any(id(weight) in own for weight in role.parameters())]
            for player, own in ids.items()}


def continued(run: Run, name: str, params: dict[str, list[nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """The optimizers of a phase: those of an earlier phase of this name if they train the same, else new ones."""
    kept = run.optimizers.setdefault(name, {})  # stays empty for a phase in which nobody learns
    same = kept.keys() == params.keys() and all(
        {id(weight) for group in kept[player].param_groups for weight in group["params"]} == {id(weight) for weight in weights}
        for player, weights in params.items())
    if not same:
        run.optimizers[name] = {}
        for player, weights in params.items():
            optimizer = run.method.optimizer(player, weights, run.recipe)
            for group in optimizer.param_groups:
                group["height"] = group["lr"]
            run.optimizers[name][player] = optimizer
    return run.optimizers[name]


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every learning rate to this share of its height; a group that says `"scheduled": False` keeps its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["height"] * (share if group.get("scheduled", True) else 1.0)


def modes(networks: Networks, method: Method, players: Mapping[str, Sequence[nn.Module]]) -> None:
    """Training mode for what learns and evaluation mode for all else: frozen statistics stay as they are."""
    for module in (*networks, method):
        module.eval()
    for modules in players.values():
        for module in modules:
            module.train()
    for module in (*(role for role in networks if not isinstance(role, Frozen)), method):  # those need no looking through
        for part in module.modules():
            weights = list(part.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                part.eval()
