"""The trials of a study: which count, which are unfinished, and what is noted of each."""

import shlex
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

__all__ = ["ABANDONED", "TOLD", "UNTRAINED", "asked", "command", "id_of", "numbers", "settled", "unfinished"]

TOLD = "told"  # what is noted of a trial, beside what Optuna notes
UNTRAINED = "untrained"
ABANDONED = "abandoned"  # notes a trial whose process died while its settings were being chosen


def id_of(trial: "FrozenTrial | Trial") -> int:
    """What Optuna's storage calls a trial: what `optuna.Trial` takes to go on with it, and tells nowhere in public."""
    return trial._trial_id


def asked(study: "Study") -> "list[FrozenTrial]":
    """The trials whose settings were chosen."""
    return [trial for trial in study.get_trials(deepcopy=False) if ABANDONED not in trial.user_attrs]


def numbers(study: "Study") -> dict[int, int]:
    """What each trial's number in the storage is in the search: that of a study without abandoned ones."""
    return {trial.number: number for number, trial in enumerate(asked(study))}


def settled(study: "Study") -> "list[FrozenTrial]":
    """The trials that count: those that were trained and came to an end of their own."""
    return [trial for trial in asked(study)
            if trial.state.is_finished() and UNTRAINED not in trial.user_attrs.get(TOLD, {})]


def unfinished(study: "Study", keys: Set[str]) -> "list[Trial]":
    """What an earlier command left running: its runs go on from their checkpoints.

    A trial that lacks one of these keys is given up, for its process died while they were being chosen; its successor is
    chosen by the same numbers.
    """
    import optuna

    study.sampler = optuna.samplers.RandomSampler()  # a Trial asks its sampler at once; this one does nothing then
    found = []
    for left in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        trial = optuna.Trial(study, id_of(left))
        if keys <= set(left.params):
            found.append(trial)
        else:
            trial.set_user_attr(ABANDONED, True)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return found


def command(words: Sequence[str]) -> str:
    """The command line that does one of the trials again."""
    return shlex.join(["kdrun", *words])
