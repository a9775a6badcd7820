"""Dropout before a network's classifier, for networks that have none of their own."""

import contextlib
from collections.abc import Iterator

import torch.nn.functional as F

from kdrun.models.factory import head_of
from kdrun.models.roles import Role

__all__ = ["dropping"]


@contextlib.contextmanager
def dropping(role: Role, share: float) -> Iterator[None]:
    """Inside, a share of what a network's classifier sees is dropped; of 0 nothing is touched, nor any draw made."""
    if not share:
        yield
        return
    network = getattr(role.network, "wrapped", role.network)
    layer = network.get_submodule(head_of(network, role.task.outputs))
    hook = layer.register_forward_pre_hook(lambda _, given: (F.dropout(given[0], share), *given[1:]))
    try:
        yield
    finally:
        hook.remove()
