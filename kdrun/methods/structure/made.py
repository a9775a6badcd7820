"""Students that are made from their teacher."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdrun.methods.base import Run
from kdrun.models.channels import Channels, channels_of
from kdrun.models.roles import Networks, Role

__all__ = ["as_student", "asked_in_turn", "check_inputs", "narrower", "share_of"]


def check_inputs(networks: Networks) -> None:
    """Refuse a teacher that sees other inputs than the student.

    Raises:
        ValueError: it does.
    """
    if networks.teacher.view is not None:
        raise ValueError("it makes the student from the teacher, and this teacher sees another modality; choose a dataset "
                         "other than pair")


def as_student(run: Run, network: nn.Module, model: str) -> Role:
    """A network that a method made, in the place of the student; its rows have its own size and this name."""
    run.networks.student = run.factory.role(network, "student", model)
    return run.networks.student


def narrower(networks: Networks) -> list[tuple[Channels, Channels]]:
    """The channels of the teacher, each with those of a student that has its form and at most as many of each.

    Raises:
        ValueError: the student is of another form, or has more channels.
    """
    whole, narrow = channels_of(networks.teacher.network), channels_of(networks.student.network)
    told = f"the student {networks.student.model} is not the teacher {networks.teacher.model} with fewer channels"
    hint = "; teacher=vgg8 student=vgg8x0.5, or resnet20 and resnet20x0.5, would do"
    if [(one.outputs, one.inputs, one.norms) for one in whole] != [(one.outputs, one.inputs, one.norms) for one in narrow]:
        raise ValueError(f"{told}: their layers differ{hint}")
    for one, other in zip(whole, narrow, strict=True):
        if other.count > one.count:
            raise ValueError(f"{told}: {other.outputs[0]} has {other.count}, the teacher's {one.count}{hint}")
    return list(zip(whole, narrow, strict=True))


def share_of(run: Run, share: float) -> int:
    """A share of the recipe's epochs, at least one."""
    return max(1, round(share * run.recipe.epochs))


def asked_in_turn(network: nn.Module, names: Sequence[str], inputs: Tensor) -> list[str]:
    """The names of layers in the order in which a network asks them."""
    asked: list[str] = []
    hooks = [network.get_submodule(name).register_forward_hook(lambda *_, name=name: asked.append(name)) for name in names]
    network.eval()
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return asked
