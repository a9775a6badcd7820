"""What searches for a student by one reward have in common."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from kdrun.config.constraints import AtLeastOne, Count, FileName, Positive
from kdrun.config.schema import Settings
from kdrun.sweeps.search.study import StudySearch, TeacherRecipe, built_in

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from kdrun.data.data import Data

__all__ = ["ILLEGAL", "RewardSearch", "Sampler"]

ILLEGAL = -1.0  # N2N's reward of what cannot be built, and of what is over the budget where nothing is forgiven
Sampler = Literal["tpe", "random", "reinforce"]


class RewardSearch(StudySearch):
    """A search for the highest reward of a student.

    Args:
        sampler: tpe, random or reinforce.
        learning_rate: of reinforce.
        rollouts: trials of one iteration of reinforce.
        others: see `StudySearch`.

    Attributes:
        settings: those without what is searched, once the space is known.
    """

    titles: Sequence[str] = ("reward",)
    directions: Sequence[Literal["maximize", "minimize"]] = ("maximize",)
    passing = StudySearch.passing | {"settings", "data"}  # what is known later

    def __init__(self, *, sampler: Sampler, learning_rate: Positive, rollouts: AtLeastOne, trials: AtLeastOne, seed: Count,
                 startup: Count, batch: AtLeastOne | None, storage: str | None, name: FileName | None,
                 teacher_recipe: TeacherRecipe) -> None:
        super().__init__(trials=trials, seed=seed, startup=startup, batch=batch, storage=storage, name=name,
                         teacher_recipe=teacher_recipe)
        self.sampler, self.learning_rate, self.rollouts = sampler, learning_rate, rollouts
        self.settings: Settings

    def sampler_of(self, number: int, together: int) -> "BaseSampler":
        """What chooses trial `number`, where so many run at once."""
        if self.sampler == "reinforce":
            from kdrun.sweeps.search.reinforce import Reinforce  # with Optuna

            return Reinforce(self.learning_rate, self.rollouts, self.seed, number)
        return built_in(self.sampler, self.seed, number, together, self.startup)

    @cached_property
    def data(self) -> "Data":
        """What the networks are built for."""
        from kdrun.data.configured import read_dataset  # with torch
        from kdrun.models.configured import dataset_node  # with torch

        return read_dataset(dataset_node(self.settings)).seen("student")
