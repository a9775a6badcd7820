"""What a search found: the best trials on the screen, all of them in a CSV."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rich.box import SIMPLE_HEAD
from rich.table import Table

from kdrun.evaluation.result_tables import write_csv
from kdrun.sweeps.job import shown
from kdrun.sweeps.search.space import Space
from kdrun.sweeps.search.trials import TOLD, UNTRAINED, asked, command, numbers, settled
from kdrun.utils.console import plain_console
from kdrun.utils.wording import counted

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["best", "report"]

SHOWN = 5  # trials of a search with one objective
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
NOTED = ("run", "validation_accuracy", "teacher_validation_accuracy", "distillation_score", "parameters", "flops",
         "latency_ms", "kl_to_teacher", "note")


class Reported(Protocol):
    """What is to be known of a search.

    Attributes:
        titles: what the values of a trial are called.
        directions: which way each is better.
    """

    titles: Sequence[str]
    directions: Sequence[Literal["maximize", "minimize"]]

    def allowed(self, trial: "FrozenTrial") -> bool:
        """Whether a trial keeps the bounds of the search."""


def best(search: Reported, study: "Study") -> "list[FrozenTrial]":
    """The trials that nothing is better than: in order, or the Pareto front where there are several objectives."""
    import optuna

    done = [trial for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]) if search.allowed(trial)]
    signs = [-1 if direction == "maximize" else 1 for direction in search.directions]
    costs = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in done}

    def beaten(own: list[float]) -> bool:
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in costs.values())

    if len(signs) > 1:
        done = [trial for trial in done if not beaten(costs[trial.number])]
    found: dict[tuple[Any, ...], FrozenTrial] = {}
    for trial in sorted(done, key=lambda trial: (costs[trial.number], trial.number)):
        found.setdefault(tuple(noted(trial)["words"]), trial)  # the same settings may be asked for twice
    return list(found.values())[:None if len(signs) > 1 else SHOWN]


def report(search: Reported, study: "Study", space: Space, storage: Path) -> int:
    """Print the best trials, write all of them; the exit status is 1 if none was finished."""
    front, several, places = best(search, study), len(search.titles) > 1, numbers(study)
    counts = Counter(trial.state.name for trial in settled(study))
    title = f"{'The Pareto front' if several else 'The best'} of {counted(counts.total(), 'trial')} (" \
        f"{counts['PRUNED']} pruned, {counts['FAIL']} failed); measured on the validation split"
    extra = [key for key in ("validation_accuracy", "parameters") if key not in search.titles]
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right")
    for key in space.dimensions:
        table.add_column(key, overflow="fold")
    for name in (*search.titles, *extra):
        table.add_column(name.replace("_", "\n", 1), justify="right")
    for trial in front:
        table.add_row(str(places[trial.number]), *(short(trial.params[key]) for key in space.dimensions),
                      *(short(value) for value in (*trial.values, *(noted(trial).get(key) for key in extra))))
    console = plain_console()
    console.print(table)
    for trial in front[:1] if not several else front:
        console.print(f"again: {command(noted(trial)['words'])}", soft_wrap=True)
    path = storage.with_suffix(".csv")
    write_csv(path, [row(trial, number, search, space, trial in front) for number, trial in enumerate(asked(study))])
    for place in (path, storage):
        console.print(shown(place), soft_wrap=True)
    if not front:
        plain_console(stderr=True).print("kdrun: no trial came to a value; the notes in the CSV tell why")
    return 0 if front else 1


def row(trial: "FrozenTrial", number: int, search: Reported, space: Space, chosen: bool) -> dict[str, Any]:
    """A trial's row of the CSV."""
    seconds = trial.duration.total_seconds() if trial.duration else None
    state = UNTRAINED if UNTRAINED in noted(trial) else STATES[trial.state.name]
    values = dict(zip(search.titles, trial.values, strict=True)) if trial.state.name == "COMPLETE" else {}
    return {"trial": number, "state": state, "best": chosen, **{key: trial.params.get(key) for key in space.dimensions},
            **dict.fromkeys(search.titles), **{key: noted(trial).get(key) for key in NOTED}, **values, "seconds": seconds}


def noted(trial: "FrozenTrial") -> dict[str, Any]:
    """What was noted of a trial."""
    return trial.user_attrs.get(TOLD, {})


def short(value: Any) -> str:
    """A value in a cell."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:.4g}"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
