"""One update of a player: gradients, of several batches where the recipe says so, and the optimizer's step."""

import functools
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from kdrun.config.recipe import Recipe
from kdrun.methods.base import Terms
from kdrun.training.players import set_rate
from kdrun.utils import distributed

__all__ = ["Updates"]


class Updates:
    """Updates the players' weights, each time by the mean gradient of `recipe.accumulate` batches.

    Batches are counted within an epoch, whose last update is of those that are left, so that epochs end alike whatever
    the number. The learning rate is that of the last batch.

    Args:
        recipe: says how.
        params: what each player trains.
        optimizers: by which.
        steps: batches of an epoch.

    Raises:
        ValueError: two players train the same weights, whose gradients would mix.
    """

    def __init__(self, recipe: Recipe, params: Mapping[str, Sequence[nn.Parameter]],
                 optimizers: Mapping[str, torch.optim.Optimizer], steps: int) -> None:
        self.recipe, self.params, self.optimizers, self.steps = recipe, params, optimizers, steps
        self.first, self.last = 0, 0  # batches of the present update
        self.waiting: set[str] = set()  # players with gradients that were not used so far
        self.served: set[str] = set()  # players that the present batch has had
        weights = [id(weight) for own in params.values() for weight in own]
        if recipe.accumulate > 1 and len(set(weights)) < len(weights):
            raise ValueError(f"recipe.accumulate={recipe.accumulate}: two optimizers of this method train the same weights, "
                             "whose gradients would mix; give 1")

    def begin(self, step: int) -> None:
        """A batch comes, the one of this number in its epoch."""
        size = self.recipe.accumulate
        self.first = step - step % size
        self.last = min(self.first + size, self.steps) - 1
        self.served.clear()

    def complete(self, step: int) -> bool:
        """Whether an update ends with the batch of this number, so that no gradient waits."""
        return step == self.last

    def backward(self, player: str, terms: Terms) -> torch.Tensor:
        """Add the gradients of a loss to those of the batches before; returns the loss.

        Raises:
            ValueError: gradients of several batches are to be added up, and this player has had one of this batch.
        """
        if self.recipe.accumulate > 1 and player in self.served:
            raise ValueError(f"recipe.accumulate={self.recipe.accumulate}: this method updates the {player} several times a "
                             "batch; give 1")
        self.served.add(player)
        if player not in self.waiting:
            self.optimizers[player].zero_grad(set_to_none=True)
            self.waiting.add(player)
        loss = functools.reduce(operator.add, terms.values())
        count = self.last - self.first + 1
        (loss if count == 1 else loss / count).backward(inputs=self.params[player])  # only this player's
        return loss

    def step(self, player: str, rate: float) -> None:
        """Move a player's weights by the gradients that wait.

        Args:
            player: who.
            rate: the learning rate.
        """
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.params[player], self.recipe.clip)
        set_rate(self.optimizers[player], rate / self.recipe.lr)
        self.optimizers[player].step()
        self.waiting.discard(player)

    def step_waiting(self, rate: float) -> None:
        """Move the weights of the players that an update is due for, and that the last batch of it had nothing for."""
        for player in sorted(self.waiting):
            distributed.average(self.params[player])
            self.step(player, rate)
