"""Policy gradients as a sampler of Optuna's."""

import hashlib
import math
import random
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["Reinforce", "policy", "shares"]


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


def policy(rewarded: list[tuple[int, float]], count: int, rate: float, rollouts: int) -> list[float]:
    """The logits of a choice after what was chosen and rewarded so far.

    Args:
        rewarded: the place chosen and the reward, by trial.
        count: how many places there are.
        rate: the learning rate.
        rollouts: trials a step; an unfinished step counts for nothing yet.
    """
    logits = [0.0] * count
    mean = 0.0  # of all rewards before the step
    for start in range(0, len(rewarded) - rollouts + 1, rollouts):
        step, now = rewarded[start:start + rollouts], shares(logits)
        for chosen, reward in step:
            advantage = reward - mean if start else 0.0
            for place in range(count):
                logits[place] += rate / rollouts * advantage * ((place == chosen) - now[place])
        mean = sum(reward for _, reward in rewarded[:start + rollouts]) / (start + rollouts)
    return logits


def shares(logits: list[float]) -> list[float]:
    """Their softmax."""
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    return [power / sum(powers) for power in powers]
