"""Dropout before a network's classifier, for networks that have none of their own."""

import contextlib
from collections.abc import Iterator

import torch.nn.functional as F

from kdrun.models.factory import head_of
from kdrun.models.roles import Role

__all__ = ["dropping"]


@contextlib.contextmanager
def dropping(role: Role, share: float) -> Iterator[None]:
    """Inside, a share of what a network's classifier sees is dropped; of 0 nothing is touched, nor any draw made.

    Raises:
        ValueError: the network has no layer of an output for each class.
    """
    if not share:
        yield
        return
    network = getattr(role.network, "wrapped", role.network)
    try:
        layer = network.get_submodule(head_of(network, role.task.outputs))
    except ValueError:
        raise ValueError(f"dropout: the {role.name} {role.model} has no layer of {role.task.outputs} outputs before which "
                         "something could be dropped; set it to 0") from None
    hook = layer.register_forward_pre_hook(lambda _, given: (F.dropout(given[0], share), *given[1:]))
    try:
        yield
    finally:
        hook.remove()
