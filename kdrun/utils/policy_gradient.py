"""REINFORCE for a choice among several (Williams 1992), with the running mean of rewards as baseline."""

import math

__all__ = ["policy", "shares"]


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
