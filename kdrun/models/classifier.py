"""The last layer of a network, which turns its embedding into logits."""

from torch import nn

from kdrun.models.roles import Role

__all__ = ["classifier", "classifier_name"]


def classifier_name(role: Role, classes: int, what: str) -> str:
    """The name of the last linear layer with an output for each class, as its network calls it.

    Args:
        role: the network.
        classes: how many outputs.
        what: needs it, for people.

    Raises:
        ValueError: there is none.
    """
    layers = [name for name, part in role.network.named_modules()
              if isinstance(part, nn.Linear) and part.out_features == classes]
    if not layers:
        raise ValueError(f"{what} a {role.name} that ends in a linear layer of {classes} outputs, and "
                         f"{role.model or role.name} has none")
    return layers[-1]


def classifier(role: Role, classes: int, what: str) -> nn.Linear:
    """The last linear layer with an output for each class; see `classifier_name`.

    Raises:
        ValueError: there is none.
    """
    layer = role.network.get_submodule(classifier_name(role, classes, what))
    assert isinstance(layer, nn.Linear)
    return layer
