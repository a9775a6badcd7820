"""Students that are made from their teacher."""

from torch import nn

from kdrun.methods.base import Run
from kdrun.models.roles import Networks, Role

__all__ = ["as_student", "check_inputs", "share_of"]


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


def share_of(run: Run, share: float) -> int:
    """A share of the recipe's epochs, at least one."""
    return max(1, round(share * run.recipe.epochs))
