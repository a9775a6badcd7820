"""Standardised logits, for any method that compares answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdrun.cast import Cast, Output, Role
from kdrun.data.batch import Batch
from kdrun.engine import Run
from kdrun.method import Method, Phase, Terms
from kdrun.recipe import Recipe

EPSILON = 1e-7


def standardised(logits: Tensor) -> Tensor:
    """Logits [B, K] with mean 0 and (unbiased) standard deviation 1 for each sample (Sun et al. 2024, section 4.2)."""
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + EPSILON)


class Plain:
    """An answer with standardised logits, and the answer as it was: `plain`.

    It reads like an `Output`. What is no logits is only looked at when asked for, as it may cost a pass through the teacher.
    """

    def __init__(self, plain: Output) -> None:
        self.plain = plain
        self.logits = standardised(plain.logits)

    def __getattr__(self, name: str) -> Any:
        if name not in Output._fields:
            raise AttributeError(name)
        return getattr(self.plain, name)

    def _replace(self, **changes: Any) -> Output:
        return self.plain._replace(**{"logits": self.logits, **changes})


class Standardised(Role):
    """A role as a base method is to see it: the same in everything but its logits."""

    def __init__(self, role: Role) -> None:
        super().__init__(role.network, role.name, role.input_shape, role.model)
        self.role = role

    def forward(self, asked: Batch | Tensor, fresh: bool = False) -> Output:
        """What the role answers, standardised."""
        return cast(Output, Plain(self.role(asked, fresh)))


class LogitStd(Method):
    """Standardise the logits before answers are compared, so that only their form is learned (Sun et al. 2024).

    A wrapper: the base method sees every sample's logits with mean 0 and standard deviation 1, of teacher and student, and
    softens those by its own temperature. Cross-entropy with the labels takes the student's logits as they are. With two
    classes nothing is left but which of them is the larger.

    Args:
        base: a method that learns from answers.
    """

    knowledge = "response"
    source = "Sun, Ren, Li, Wang, Cao: Logit standardization in knowledge distillation. CVPR 2024"
    survey_scheme = ""
    rows = ()

    def __init__(self, *, base: Method) -> None:
        super().__init__()
        if base.knowledge != "response":
            raise ValueError(f"base: {type(base).__name__} does not learn from answers, so that standardising them is idle")
        self.base = base
        base.hard = self.hard  # type: ignore[method-assign]  # labels are not met by standardised logits

    def phases(self, run: Run) -> Iterator[Phase]:
        """The base's.

        Raises:
            ValueError: it has one with a loss of its own, which no wrapper reaches.
        """
        self.base.label_smoothing = self.label_smoothing
        for phase in self.base.phases(run):
            if phase.loss is not None:
                raise ValueError(f"base: {type(self.base).__name__} has a phase '{phase.name}' of its own kind, whose "
                                 "logits cannot be standardised; take another base")
            yield phase

    def players(self, cast: Cast) -> Mapping[str, Sequence[nn.Module]]:
        """The base's."""
        return self.base.players(cast)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The base's choice."""
        return self.base.optimizer(player, weights, recipe)

    def products(self, cast: Cast) -> Mapping[str, nn.Module]:
        """The base's."""
        return self.base.products(cast)

    def step(self, cast: Cast, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The base's updates, by standardised answers."""
        teachers, peers = ([Standardised(role) for role in roles] for roles in (cast.teachers, cast.peers))
        yield from self.base.step(Cast(Standardised(cast.student), [*teachers], [*peers]), batch)

    def hard(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of the answer as it was with the labels."""
        return super().hard(getattr(output, "plain", output), batch)
