"""Policy gradients as a sampler of Optuna's."""

import hashlib
import random
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler

from kdrun.utils.policy_gradient import policy, shares

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["Reinforce"]


class Reinforce(BaseSampler):
    """REINFORCE (Williams 1992) with a softmax of its own for each choice and the running mean of rewards as baseline.

    The policy is made anew from the finished trials each time, so there is nothing to save. What is no choice is drawn at
    random.

    Args:
        rate: the learning rate.
        rollouts: trials whose gradients are averaged for one step.
        seed: of the draws.
        number: of the trial; another number draws otherwise.
    """

    def __init__(self, rate: float, rollouts: int, seed: int, number: int) -> None:
        self.rate, self.rollouts = rate, rollouts
        self.draws = random.Random(hashlib.sha256(f"reinforce/{seed}/{number}".encode()).digest())
        self.other = RandomSampler(seed=self.draws.getrandbits(32))

    def infer_relative_search_space(self, study: "Study", trial: "FrozenTrial") -> dict[str, BaseDistribution]:
        """Each choice is drawn on its own."""
        return {}

    def sample_relative(self, study: "Study", trial: "FrozenTrial",
                        search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Each choice is drawn on its own."""
        return {}

    def sample_independent(self, study: "Study", trial: "FrozenTrial", param_name: str,
                           param_distribution: BaseDistribution) -> Any:
        """Draw a choice from the policy."""
        if not isinstance(param_distribution, CategoricalDistribution):
            return self.other.sample_independent(study, trial, param_name, param_distribution)
        choices = param_distribution.choices
        steps = [(one.params[param_name], one.value) for one in study.trials if one.state.name == "COMPLETE"
                 and one.value is not None and param_name in one.params]
        scores = policy([(choices.index(chosen), float(reward)) for chosen, reward in steps], len(choices), self.rate,
                        self.rollouts)
        return self.draws.choices(choices, shares(scores))[0]
