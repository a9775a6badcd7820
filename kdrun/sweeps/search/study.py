"""Searches that learn from trial to trial, on top of Optuna; everything they know is in one SQLite file."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from filelock import FileLock, Timeout

from kdrun.config import method_settings
from kdrun.config.constraints import AtLeastOne, Count, FileName
from kdrun.config.identity import identity
from kdrun.config.schema import ConfigError, Settings
from kdrun.config.validation import trained_first
from kdrun.sweeps.search.context import SweepContext
from kdrun.sweeps.search.objectives import DIRECTIONS, Objective, measured
from kdrun.sweeps.search.pruning import PRUNED, Watch
from kdrun.sweeps.search.reporting import report
from kdrun.sweeps.search.space import Space, parsed, read
from kdrun.sweeps.search.trials import TOLD, UNTRAINED, asked, id_of, numbers, settled, unfinished
from kdrun.utils.console import plain_console
from kdrun.utils.names import file_name
from kdrun.utils.progress import Progress
from kdrun.utils.signals import Interrupted
from kdrun.utils.wording import counted
from kdrun.utils.wording import formatted as written

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

__all__ = ["OptunaSearch", "StudySearch"]

ASKED = "asked"          # notes of a study how many trials there are once the present batch is complete
TeacherRecipe = Literal["fixed", "trial"]
MOST = 20      # untrained trials to each that is wanted, after which a search gives up


class StudySearch:
    """A search whose trials are jobs: asked for one batch after the other, told what came of them.

    Trial n depends on n, the seed and the trials of earlier batches alone, so that a search that was interrupted anywhere
    ends with the trials of one in one go: what was chosen and not finished is run again as the same trial, and a batch that
    was begun is completed before the next one. Settings that were trained before are not trained again and not counted.

    Args:
        trials: how many in all.
        seed: of the sampler.
        startup: trials at random before TPE learns from them.
        batch: trials at once; None for as many as the launcher runs at once.
        storage: the SQLite file; None for one beside the sweeps.
        name: of the study; None for one that depends on everything that is searched.
        teacher_recipe: what teachers are trained by where the recipe is searched over: by what it is without what is
            searched (`fixed`), so that one teacher serves all trials, or by the trial's (`trial`). The baseline goes by the
            trial's.

    Attributes:
        titles: what the values of a trial are called.
        directions: which way each is better.
    """

    extra: ClassVar[tuple[str, str] | None] = ("tune", "optuna")
    titles: Sequence[str]
    directions: Sequence[Literal["maximize", "minimize"]]
    passing = frozenset({"trials", "batch", "storage", "name"})  # may change without making it another search

    def __init__(self, *, trials: AtLeastOne, seed: Count, startup: Count, batch: AtLeastOne | None, storage: str | None,
                 name: FileName | None, teacher_recipe: TeacherRecipe) -> None:
        self.trials, self.seed, self.startup, self.batch = trials, seed, startup, batch
        self.storage, self.name, self.teacher_recipe = storage, name, teacher_recipe

    def problems(self, settings: Settings) -> list[str]:
        """What cannot be, given all settings: a line each."""
        if settings.node("dataset")["validation"] == 0:
            return ["dataset.validation: got 0, but a search chooses by the validation split; give dataset.validation=0.1"]
        return []

    def space(self, settings: Settings, overrides: Sequence["Override"]) -> Space:
        """What there is to choose from.

        Raises:
            ConfigError: nothing, or what cannot be searched over.
        """
        space = read(overrides, lambda words: settings.choices["method"])
        if not space.dimensions:
            raise ConfigError(["sweep=optuna has nothing to choose from; give a setting several values, like "
                           "'method.temperature=interval(1,10)' or method=kd,at"])
        return space

    def sampler_of(self, number: int, together: int) -> "BaseSampler":
        """What chooses trial `number`, where so many run at once."""
        raise NotImplementedError

    def worth(self, measures: Mapping[str, float | None], number: int) -> Sequence[float | None]:
        """The values of a trial that was trained; None for one that is not defined."""
        raise NotImplementedError

    def measured(self, folder: Path) -> dict[str, float | None]:
        """What is noted of a trial, from its run's folder."""
        return measured(folder)

    def known(self, context: SweepContext, words: Sequence[str], number: int) -> tuple[Sequence[float], dict[str, Any]] | None:
        """A trial's values and what to note of it, where that is known without training; None where it is not.

        Such a trial is not counted, but the sampler learns from it.
        """
        return None

    def watch(self, storage: str, study: str, trial: int) -> Watch | None:
        """How a job is watched; None for not at all."""
        return None

    def allowed(self, trial: "FrozenTrial") -> bool:
        """Whether a trial may be the best."""
        return True

    def run(self, context: SweepContext, words: Sequence[str]) -> "Study":
        """Search until there are as many trials as are wanted, and tell of the best.

        Raises:
            ConfigError: another command is at this study, or its storage cannot be used.
        """
        settings, screen = context.settings, Progress(plain_console(stderr=True))
        space = self.space(settings, parsed([*words, *context.task.own], context.context.config_loader))
        name = self.name or f"{settings.method}-{settings.choices['student']}-{self.digest(settings, space)[:8]}"
        path = Path(self.storage).absolute() if self.storage else settings.outputs / "sweeps" / file_name(f"{name}.db")
        context.task.reported = True
        with self.opened(path, name) as study:
            before = len(settled(study))
            if before:
                screen.note(f"{before} of {counted(self.trials, 'trial')} done already ({path})")
            try:
                self.search(study, f"sqlite:///{path}", context, space, screen)
            except Interrupted as asked:
                line = asked.told(f"{len(settled(study))} of {counted(self.trials, 'trial')} done; the same command goes on")
                plain_console(stderr=True).print(f"kdrun: {line}", soft_wrap=True)
                context.task.status = asked.status
                raise
            context.task.status = report(self, study, space, path)
        return study

    def digest(self, settings: Settings, space: Space) -> str:
        """Of everything that makes this another search."""
        own = {key: value for key, value in vars(self).items() if key not in self.passing}
        alone = method_settings.parted(space.fixed)[1]  # which are in no settings of every job
        told = [type(self).__name__, identity(settings), sorted((key, repr(one)) for key, one in space.dimensions.items()), own,
                alone]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    @contextmanager
    def opened(self, path: Path, name: str) -> "Iterator[Study]":
        """The study, for this process alone.

        Raises:
            ConfigError: another command is at it, or its storage cannot be used.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{path}.lock", timeout=0):
                try:
                    study = optuna.create_study(study_name=name, storage=f"sqlite:///{path}", load_if_exists=True,
                                                directions=list(self.directions))
                    kept = [direction.name.lower() for direction in study.directions]
                except Exception as error:  # whatever the database makes of a file that is none
                    raise ConfigError([f"sweep.storage: cannot use {path} ({str(error).splitlines()[0]})"]) from error
                if kept != list(self.directions):
                    raise ConfigError([f"sweep.name: the study {name} in {path} has other objectives; give another name"])
                yield study
        except Timeout:
            raise ConfigError([f"another command is at this search ({path}); wait for it, or give sweep.name=..."]) from None

    def search(self, study: "Study", storage: str, context: SweepContext, space: Space, screen: Progress) -> None:
        """Run trials until there are enough."""
        shutil.rmtree(context.folder / "trials", ignore_errors=True)  # of an earlier session
        distributions = {key: dimension.distribution() for key, dimension in space.dimensions.items()}
        together = self.batch or context.at_once
        batch = unfinished(study, set(distributions))
        while (left := self.trials - len(settled(study))) > 0:
            begun = len(asked(study))
            goal = study.user_attrs.get(ASKED, 0)
            if not batch and begun >= goal:
                if (different := len({tuple(trial.params.items()) for trial in asked(study)})) == space.count:
                    screen.note(f"all {different} combinations were tried; there is nothing else to choose")
                    return
                goal = begun + min(left, together)
                study.set_user_attr(ASKED, goal)
            for number in range(begun, goal):
                study.sampler = self.sampler_of(number, together)
                batch.append(study.ask(distributions))
            untrained = self.tried(study, storage, context, space, screen, batch)
            batch = []
            if untrained and sum(UNTRAINED in trial.user_attrs.get(TOLD, {}) for trial in asked(study)) > MOST * self.trials:
                screen.note("hardly anything is left that is worth a training; no more is looked for")
                return

    def tried(self, study: "Study", storage: str, context: SweepContext, space: Space, screen: Progress,
              batch: "list[Trial]") -> bool:
        """Run the jobs of a batch and tell the study what came of them; whether there was nothing to train.

        Raises:
            Interrupted: a job was stopped; nothing of those launched with it is told.
        """
        launched = False
        waiting = [(trial, [*(words := space.words(trial.params)), *self.kept(context, space, words)]) for trial in batch]
        while waiting:
            jobs: list[tuple[Trial, list[str]]] = []
            later = []
            for trial, words in waiting:
                number = numbers(study)[trial.number]
                if (known := self.repeated(study, words, number) or self.known(context, words, number)) is not None:
                    trial.set_user_attr(TOLD, {"words": words, **known[1], UNTRAINED: True})
                    study.tell(trial, known[0])
                elif any(words == others for _, others in jobs):
                    later.append((trial, words))
                else:
                    jobs.append((trial, words))
            for place, (trial, _) in enumerate(jobs):
                if (watch := self.watch(storage, study.study_name, id_of(trial))) is not None:
                    watch.leave(context.folder, context.launched + place)
            records = context.launch([words for _, words in jobs]) if jobs else []
            if stops := [record["status"] - 128 for record in records if record["status"] > 128]:  # by whoever runs the jobs
                raise Interrupted(Signals(stops[0]))
            for (trial, words), record in zip(jobs, records, strict=True):
                self.settle(study, trial, words, record)
            for trial, _ in jobs:
                screen.note(told(study.trials[trial.number], numbers(study)[trial.number], self.titles, len(settled(study)),
                                 self.trials))
            launched, waiting = launched or bool(jobs), later
        return not launched

    def kept(self, context: SweepContext, space: Space, words: Sequence[str]) -> list[str]:
        """The words by which a job's teacher keeps its recipe where that is searched over and the job trains a teacher."""
        if self.teacher_recipe == "trial" or not (searched := space.recipe_keys):
            return []
        settings = context.settings_of(words)
        teacher = settings.teacher
        if teacher.trained_by_user or teacher.recipe or not trained_first(settings.node("scheme")):
            return []
        recipe = context.settings.node("recipe")
        return [f"teacher.recipe={written({key: recipe[key] for key in recipe if '' in searched or key in searched})}"]

    def repeated(self, study: "Study", words: Sequence[str], number: int) -> tuple[Sequence[float], dict[str, Any]] | None:
        """Likewise for words that were trained before."""
        from optuna.trial import TrialState

        for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
            noted = trial.user_attrs[TOLD]
            if noted["words"] == words and UNTRAINED not in noted:
                values = [value for value in self.worth(noted, number) if value is not None]
                return values, {**noted, "note": f"the same as trial {numbers(study)[trial.number]}"}
        return None

    def settle(self, study: "Study", trial: "Trial", words: Sequence[str], record: Mapping[str, Any]) -> None:
        """Tell the study what came of a job; one that failed is a failed trial, and the search goes on."""
        from optuna.trial import TrialState

        folder, note = Path(record["folder"]), record["error"]
        measures = self.measured(folder) if record["status"] == 0 else {}
        values = self.worth(measures, numbers(study)[trial.number]) if measures else []
        if missing := [title for title, value in zip(self.titles, values, strict=False) if value is None]:
            note, values = f"{', '.join(missing)}: not defined for this run", []
        # all at once: each is written to the disk on its own
        trial.set_user_attr(TOLD, {"words": list(words), "run": folder.name, "note": note or None, **measures})
        if values:
            study.tell(trial, [value for value in values if value is not None])
        else:
            study.tell(trial, state=TrialState.PRUNED if record["status"] == PRUNED else TrialState.FAIL)


class OptunaSearch(StudySearch):
    """TPE, NSGA-II or chance over settings, for one objective or several.

    (Akiba et al., Optuna, KDD 2019; Bergstra et al., Algorithms for hyper-parameter optimization, NeurIPS 2011; Deb et al.,
    NSGA-II, 2002.) No objective is ever measured on the test set.

    Args:
        sampler: tpe, nsga2 or random.
        objectives: what to look for.
        population: of a generation of NSGA-II.
        prune: whether to stop a trial that is below the median of the earlier ones; with one objective, which has to be the
            validation accuracy.
        prune_startup: how many trials there have to be before one is stopped.
        prune_warmup: how many epochs a trial has in any case.
        others: see `StudySearch`.
    """

    passing = StudySearch.passing | {"prune", "prune_startup", "prune_warmup", "titles", "directions"}

    def __init__(self, *, trials: AtLeastOne, sampler: Literal["tpe", "nsga2", "random"], objectives: list[Objective],
                 seed: Count, startup: Count, population: AtLeastOne, prune: bool, prune_startup: Count,
                 prune_warmup: Count, batch: AtLeastOne | None, storage: str | None, name: FileName | None,
                 teacher_recipe: TeacherRecipe) -> None:
        super().__init__(trials=trials, seed=seed, startup=startup, batch=batch, storage=storage, name=name,
                         teacher_recipe=teacher_recipe)
        self.sampler, self.objectives, self.population = sampler, objectives, population
        self.prune, self.prune_startup, self.prune_warmup = prune, prune_startup, prune_warmup
        self.titles, self.directions = objectives, [DIRECTIONS[one] for one in objectives]

    def problems(self, settings: Settings) -> list[str]:
        """What cannot be, given all settings: a line each."""
        found = super().problems(settings)
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            found.append(f"sweep.objectives: got [{', '.join(self.objectives)}], wanted one or several, each once, of "
                         + ", ".join(DIRECTIONS))
        if self.sampler == "nsga2" and self.population < 2:
            found.append(f"sweep.population: got {self.population}, wanted a whole number at least 2")
        return found

    def sampler_of(self, number: int, together: int) -> "BaseSampler":
        """What chooses trial `number`, where so many run at once."""
        return built_in(self.sampler, self.seed, number, together, self.startup, self.population)

    def worth(self, measures: Mapping[str, float | None], number: int) -> Sequence[float | None]:
        """The objectives."""
        return [measures[one] for one in self.objectives]

    def watch(self, storage: str, study: str, trial: int) -> Watch | None:
        """By the history of the validation accuracy."""
        if self.prune and self.objectives == ["validation_accuracy"]:
            return Watch(storage, study, trial, self.prune_startup, self.prune_warmup)
        return None


def built_in(name: str, seed: int, number: int, together: int, startup: int, population: int = 2) -> "BaseSampler":
    """A sampler of Optuna's, seeded anew for every trial, so that it matters not where a search was interrupted."""
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    own = int.from_bytes(hashlib.sha256(f"search/{seed}/{number}".encode()).digest()[:4], "big")
    if name == "random":
        return RandomSampler(seed=own)
    if name == "nsga2":
        return NSGAIISampler(population_size=population, seed=own)
    return TPESampler(n_startup_trials=startup, multivariate=True, constant_liar=together > 1, seed=own)


def told(trial: "FrozenTrial", number: int, titles: Sequence[str], done: int, wanted: int) -> str:
    """What came of a trial, in a line."""
    chosen = " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                      for key, value in trial.params.items())
    came = ", ".join(f"{title} {value:.4g}" for title, value in zip(titles, trial.values or [], strict=False))
    if trial.state.name != "COMPLETE":
        came = f"{ {'PRUNED': 'pruned', 'FAIL': 'failed'}[trial.state.name]}: {trial.user_attrs[TOLD]['note']}"
    return f"trial {number} ({done} of {wanted} done): {chosen}: {came}"
