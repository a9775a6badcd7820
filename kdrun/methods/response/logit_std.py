"""Standardised logits, for any method that compares answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import standardise
from kdrun.models.output import LazyOutput, ModelOutput
from kdrun.models.roles import Networks, Role


class Standardised(LazyOutput):
    """An answer with standardised logits, and the answer as it was: `plain`.

    What is no logits is only looked at when asked for, as it may cost a pass through the teacher.
    """

    def __init__(self, plain: ModelOutput) -> None:
        super().__init__(plain, logits=lambda own: standardise(own.logits))
        self.plain = plain


class LogitStd(Method):
    """Standardise the logits before answers are compared, so that only their form is learned (Sun et al. 2024).

    A wrapper: the base method sees every sample's logits with mean 0 and standard deviation 1, of teachers, student, peers
    and of whatever it forked or copied of them, and softens those by its own temperature. Cross-entropy with the labels
    takes the logits as they are. With two classes nothing is left but which of them is the larger.

    A base that does anything else with logits says so (`plain_logits`), and is refused.

    Args:
        base: a method that learns from answers.
    """

    knowledge = ("response",)
    plain_logits = "standardises logits itself"
    source = "Sun, Ren, Li, Wang, Cao: Logit standardization in knowledge distillation. CVPR 2024"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, base: Method) -> None:
        super().__init__()
        if "response" not in base.knowledge:
            raise ValueError(f"base: {type(base).__name__} does not learn from answers, so that standardising them is idle")
        if base.plain_logits:
            raise ValueError(f"base: {type(base).__name__} {base.plain_logits}, so that its logits cannot be standardised; "
                             "take another base")
        self.base, self.label_term, self.past_teaches = base, base.label_term, base.past_teaches
        self.forks: list[Role] = []  # of networks, that the base has made
        self.showing = False
        base.label_loss = lambda output, batch: self.label_loss(output, batch)  # type: ignore[method-assign]

    def phases(self, run: Run) -> Iterator[Phase]:
        """The base's; where one has a loss of its own, that sees standardised logits too."""
        for phase in self.base.phases(run):
            self.forks = [part for part in self.base.modules() if isinstance(part, Role)]
            if phase.loss is not None:
                phase.loss = partial(self.standardised_loss, phase.loss)
            yield phase

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The base's."""
        return self.base.players(networks)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The base's choice."""
        return self.base.optimizer(player, weights, recipe)

    def failure(self) -> tuple[str, str] | None:
        """What the base says."""
        return self.base.failure()

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The base's."""
        return self.base.trained_networks(networks)

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The base's."""
        return self.base.extra_tables(run)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The base's updates, by standardised answers."""
        updates = iter(self.base.step(networks, batch))
        while True:
            with self.standardising(networks):
                move = next(updates, None)
            if move is None:
                return
            yield move

    def standardised_loss(self, loss: Callable[[Networks, Batch], Terms], networks: Networks, batch: Batch) -> Terms:
        """A loss of the base's, by standardised answers."""
        with self.standardising(networks):
            return loss(networks, batch)

    @contextmanager
    def standardising(self, networks: Networks) -> Iterator[None]:
        """While the base looks at them, all networks show standardised answers."""
        roles, self.showing = [*networks, *self.forks], True
        for role in roles:
            role.shown = as_standardised
        try:
            yield
        finally:
            self.showing = False
            for role in roles:
                role.shown = None

    def label_loss(self, output: ModelOutput, batch: Batch) -> Tensor:
        """Cross-entropy of the answer as it was with the labels.

        Raises:
            ValueError: the base made that answer itself, of standardised ones.
        """
        if self.showing and not hasattr(output, "plain"):
            raise ValueError(f"base: {type(self.base).__name__} meets the labels by logits that it makes of others, so that "
                             "its logits cannot be standardised; take another base")
        return super().label_loss(getattr(output, "plain", output), batch)


def as_standardised(output: ModelOutput) -> ModelOutput:
    """What a base sees of an answer."""
    return cast(ModelOutput, Standardised(output))
