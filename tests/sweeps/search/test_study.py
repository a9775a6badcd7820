"""Searches over a landscape instead of trainings: what is asked, told, resumed, reported."""

import contextlib
import itertools
import json
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from kdrun.config import registry
from kdrun.config.schema import ConfigError, Settings
from kdrun.evaluation.result_tables import HISTORY_COLUMNS
from kdrun.sweeps.search.pruning import PRUNED, Pruned, Watch, screen_of
from kdrun.sweeps.search.space import parsed
from kdrun.sweeps.search.study import OptunaSearch
from kdrun.sweeps.search.trials import TOLD, UNTRAINED
from kdrun.utils.progress import Progress
from kdrun.utils.signals import Interrupted
from tests.toy import settings_of

pytestmark = pytest.mark.slow  # many of half a second


@pytest.fixture(autouse=True)
def _hurried():
    """No test waits until the disk has what SQLite wrote."""
    def hurry(connection, record):
        connection.execute("pragma synchronous = off")

    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)


@cache
def kd() -> Settings:
    """The settings of the default run."""
    return settings_of("method=kd")


def landscape(words: list[str]) -> dict[str, float]:
    """A peak of accuracy at temperature 4, and parameters that grow with the temperature."""
    given = dict(word.split("=", 1) for word in words)
    heat = float(given["method.temperature"])
    return {"accuracy": 1 - (heat - 4) ** 2 / 100, "parameters": round(100 * heat)}


@dataclass
class FakeDesk:
    """Launches nothing: a job's measures are those of the landscape, unless it shall fail."""

    outputs: Path
    fails: Any = lambda words: False
    stop_at: int | None = None
    launched: int = 0
    at_once: int = 1
    context: Any = field(default_factory=lambda: SimpleNamespace(config_loader=None))
    task: Any = field(default_factory=lambda: SimpleNamespace(status=0, reported=False, own=()))
    jobs: list[list[str]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.outputs / "sweeps" / "now"

    @property
    def settings(self):
        return Settings(kd().values | {"outputs": str(self.outputs)}, kd().choices)

    def launch(self, jobs):
        return [self.one(words) for words in jobs]

    def one(self, words: list[str]) -> dict[str, Any]:
        if self.launched == self.stop_at:
            raise Interrupted(2, "here")
        folder = self.outputs / "runs" / f"r{len(self.jobs)}"
        folder.mkdir(parents=True)
        self.launched += 1
        self.jobs.append(words)
        if self.fails(words):
            return {"status": 1, "error": "RuntimeError: no", "folder": str(folder)}
        found = landscape(words)
        history = [("r", role, "distill", 0, "validation", "accuracy", value)
                   for role, value in (("student", found["accuracy"]), ("teacher", 1.0))]
        pandas.DataFrame(history, columns=list(HISTORY_COLUMNS)).to_csv(folder / "history.csv", index=False)
        size = {"parameters": found["parameters"], "flops": 1}
        told = {"rows": [{"role": "student", **size}, {"role": "teacher", **size, "parameters": 1000}],
                "settings": {"measures": {"alpha": 0.5, "size_unit": "parameters"}}}
        (folder / "run.json").write_text(json.dumps(told))
        return {"status": 0, "error": "", "folder": str(folder)}


WORDS = ["method=kd", "method.temperature=interval(1,10)"]


def search(**changes) -> OptunaSearch:
    settings = {key: value for key, value in registry.load("sweep", "optuna").items() if key != "_target_"}
    return OptunaSearch(**(settings | {"trials": 12, "startup": 4} | changes))


def temperatures(context: FakeDesk) -> list[float]:
    return [float(word.partition("=")[2]) for words in context.jobs for word in words if word.startswith("method.temperature")]


def test_tpe_finds_the_peak_and_says_how_to_go_there_again(tmp_path, capsys):
    context = FakeDesk(tmp_path)
    study = search(trials=30).run(context, WORDS)
    assert study.best_value > 0.99
    assert abs(study.best_params["method.temperature"] - 4) < 1
    assert (context.task.status, context.task.reported) == (0, True)
    out = capsys.readouterr().out
    assert f"again: kdrun method=kd method.temperature={study.best_params['method.temperature']!r}" in out
    (path,) = (tmp_path / "sweeps").glob("kd-resnet8-*.csv")
    table = pandas.read_csv(path)
    assert len(table) == 30
    assert table["state"].unique().tolist() == ["finished"]
    assert table.loc[table["best"], "validation_accuracy"].max() == pytest.approx(study.best_value)


def test_the_same_search_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole, parted = FakeDesk(tmp_path / "whole"), FakeDesk(tmp_path / "parted")
    search(trials=8).run(whole, WORDS)
    search(trials=5).run(parted, WORDS)
    search(trials=8).run(parted, WORDS)
    assert len(parted.jobs) == 8
    assert temperatures(parted) == temperatures(whole)
    search(trials=8).run(parted, WORDS)
    assert len(parted.jobs) == 8  # nothing was left to do


class Killed(BaseException):
    """What no code heeds, as SIGKILL."""


def killed_after(monkeypatch, steps: int) -> None:
    """Let the process die after so many more changes of the storage."""
    left = iter(range(steps))

    def dying(name: str):
        real = getattr(optuna.storages.RDBStorage, name)

        def change(*args, **kwargs):
            if next(left, None) is None:
                raise Killed
            return real(*args, **kwargs)

        return change

    for name in ("create_new_trial", "set_trial_param", "set_trial_user_attr", "set_trial_state_values", "set_study_user_attr"):
        monkeypatch.setattr(optuna.storages.RDBStorage, name, dying(name))


SPACE = ["method=kd", "method.temperature=interval(1,10)", "method.ce_weight=interval(0,1)", "seed=1,2,3,4"]


def chosen(folder: Path) -> list[tuple[Any, ...]]:
    """The trials that the table of a search names, and what came of them."""
    (path,) = (folder / "sweeps").glob("*.csv")
    table = pandas.read_csv(path, dtype=str)
    return [tuple(row) for row in table.drop(columns=["run", "seconds"]).fillna("").itertuples(index=False)]


@pytest.mark.parametrize(("sampler", "together"), [("tpe", 3), ("random", 2)])
def test_a_search_that_was_killed_anywhere_has_the_trials_of_one_in_one_go(tmp_path, monkeypatch, sampler, together):
    asked = {"trials": 7, "startup": 3, "sampler": sampler}
    search(**asked).run(FakeDesk(tmp_path / "whole", at_once=together), SPACE)
    parted, deaths = FakeDesk(tmp_path / "parted", at_once=together), 0
    for steps in itertools.chain((5, 1, 2, 9, 3, 17, 4, 8, 6, 12), itertools.repeat(20)):
        parted.launched, parted.stop_at = 0, steps % 4 or None  # and where nothing of that kills it, somebody stops it
        with monkeypatch.context() as patch, contextlib.suppress(Killed, Interrupted):
            killed_after(patch, steps)
            search(**asked).run(parted, SPACE)
            break
        deaths += 1
    assert deaths > 5
    assert chosen(tmp_path / "parted") == chosen(tmp_path / "whole")


def test_a_failed_job_is_a_failed_trial_and_the_search_goes_on(tmp_path, capsys):
    context = FakeDesk(tmp_path, fails=lambda words: float(words[-1].partition("=")[2]) > 5)
    study = search(trials=10).run(context, WORDS)
    failed = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.FAIL]
    assert failed
    assert len(study.trials) == 10
    assert failed[0].user_attrs[TOLD]["note"] == "RuntimeError: no"
    assert context.task.status == 0
    assert f"{len(failed)} failed" in capsys.readouterr().out


def test_where_everything_fails_the_status_is_one(tmp_path):
    context = FakeDesk(tmp_path, fails=lambda words: True)
    search(trials=2).run(context, WORDS)
    assert context.task.status == 1


def test_several_objectives_give_a_front(tmp_path, capsys):
    context = FakeDesk(tmp_path)
    wanted = search(trials=24, sampler="nsga2", objectives=["validation_accuracy", "parameters"], population=6)
    wanted.run(context, WORDS)
    (path,) = (tmp_path / "sweeps").glob("*.csv")
    front = pandas.read_csv(path).query("best").sort_values("parameters")
    assert len(front) > 1
    assert front["validation_accuracy"].is_monotonic_increasing  # nobody is both larger and worse
    assert (front["method.temperature"] <= 4.5).all()  # beyond the peak both get worse
    assert "The Pareto front" in capsys.readouterr().out


def test_the_distillation_score_is_looked_for_downwards(tmp_path):
    study = search(objectives=["distillation_score"], trials=30).run(FakeDesk(tmp_path), WORDS)
    # alpha 0.5: 0.05 * heat + 0.5 * (heat - 4)^2 / 100 has its least at -1 + 4 ... heat = 4 - 5 < 1, so at the lower end
    assert study.best_params["method.temperature"] < 1.5


def test_batches_are_as_large_as_the_launcher(tmp_path):
    context = FakeDesk(tmp_path, at_once=3)
    sizes = []
    launch = context.launch
    context.launch = lambda jobs: sizes.append(len(jobs)) or launch(jobs)
    search(trials=7).run(context, WORDS)
    assert sizes == [3, 3, 1]


def test_another_space_is_another_study(tmp_path):
    context = FakeDesk(tmp_path)
    search(trials=1).run(context, WORDS)
    search(trials=1).run(context, ["method=kd", "method.temperature=interval(1,9)"])
    search(trials=1, objectives=["parameters"]).run(context, WORDS)
    search(trials=1, prune=False).run(context, WORDS)  # no other search
    assert len(list((tmp_path / "sweeps").glob("*.db"))) == 3
    assert len(context.jobs) == 3


def test_what_was_trained_before_is_no_trial(tmp_path, capsys):
    context = FakeDesk(tmp_path, at_once=2)
    study = search(trials=4, sampler="random").run(context, ["method=kd", "method.temperature=2,4,8", "seed=1,2"])
    assert len(context.jobs) == len({tuple(words) for words in context.jobs}) == 4
    repeats = [trial for trial in study.trials if UNTRAINED in trial.user_attrs[TOLD]]
    assert repeats  # two of four random draws from six are the same, as a rule
    first = next(trial for trial in study.trials if trial.params == repeats[0].params)
    assert repeats[0].value == first.value
    assert repeats[0].user_attrs[TOLD]["note"] == f"the same as trial {first.number}"
    assert "The best of 4 trials" in capsys.readouterr().out
    search(trials=20, sampler="random").run(context, ["method=kd", "method.temperature=2,4,8", "seed=1,2"])
    assert len(context.jobs) == 6
    assert "all 6 combinations were tried" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "changes", "kept"), [
    ([], {}, ["teacher.recipe={lr: 0.05}"]),
    (["recipe=standard"], {}, ["teacher.recipe={lr: 0.05}"]),
    (["recipe.lr=0.2"], {}, ["teacher.recipe={lr: 0.05}"]),  # given twice, so what is searched stands
    ([], {"teacher_recipe": "trial"}, []),
    (["teacher.recipe=wrn"], {}, []),
    (["scheme=online"], {}, []),  # which trains the teacher beside the student
])
def test_a_search_over_the_recipe_leaves_the_teachers_alone(words, changes, kept):
    wanted, base = search(**changes), ["method=kd", *words]
    context = SimpleNamespace(settings=settings_of("method=kd", *(word for word in words if not word.startswith("recipe."))),
                           settings_of=lambda job: settings_of(*job))
    space = wanted.space(context.settings, parsed([*base, "recipe.lr=tag(log,interval(0.01,1))"]))
    assert wanted.kept(context, space, space.words({"recipe.lr": 0.3})) == kept


def test_a_search_over_recipes_keeps_the_teachers_whole_recipe():
    context = SimpleNamespace(settings=kd(), settings_of=lambda job: settings_of(*job))
    space = search().space(kd(), parsed(["method=kd", "recipe=digits,standard"]))
    (word,) = search().kept(context, space, space.words({"recipe": "standard"}))
    assert settings_of("recipe=standard", word).values["teacher"]["recipe"] == kd().values["recipe"]


def test_a_batch_of_which_a_job_was_stopped_is_run_again(tmp_path):
    context = FakeDesk(tmp_path, at_once=2)
    ordinary = context.one
    context.one = lambda words: {**ordinary(words), "status": 143} if len(context.jobs) == 3 else ordinary(words)
    with pytest.raises(Interrupted):
        search(trials=4).run(context, WORDS)
    study = search(trials=4).run(context, WORDS)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert temperatures(context)[2:4] == temperatures(context)[4:]


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be taken for one\n" * 40)
    with pytest.raises(ConfigError, match=r"sweep.storage: cannot use .*notes.txt"):
        search(storage=str(tmp_path / "notes.txt")).run(FakeDesk(tmp_path), WORDS)


def test_one_command_at_a_time(tmp_path):
    path = tmp_path / "one.db"
    with search(storage=str(path)).opened(path, "x"), \
            pytest.raises(ConfigError, match="another command is at this search"), search().opened(path, "x"):
        pass


def test_nothing_to_choose_from(tmp_path):
    with pytest.raises(ConfigError, match="sweep=optuna has nothing to choose from"):
        search().run(FakeDesk(tmp_path), ["method=kd"])


def trained(study: optuna.Study, storage: str, sweep: Path, accuracies: list[float]) -> int:
    """Train a trial with these validation accuracies; how many epochs it came to."""
    trial = study.ask({})
    Watch(storage, study.study_name, trial._trial_id, startup=2, warmup=1).leave(sweep, trial.number)
    screen = screen_of(sweep, trial.number, None)
    with screen.phase("teacher big", "distill", 3, 1) as progress:
        for done in range(1, 4):
            progress.epoch(done, {}, 0.01)  # nobody asks how good the teacher is
    for epoch, accuracy in enumerate(accuracies, start=1):
        try:
            with screen.phase("student small", f"phase {epoch}", 1, 1) as progress:  # a phase an epoch
                progress.step()
                progress.epoch(1, {}, accuracy)
        except Pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch
    study.tell(trial, accuracies[-1])
    return len(accuracies)


def test_a_trial_below_the_median_is_stopped(tmp_path):
    storage = f"sqlite:///{tmp_path / 's.db'}"
    study = optuna.create_study(storage=storage, direction="maximize", study_name="s")
    assert trained(study, storage, tmp_path, [0.1, 0.2, 0.3]) == 3  # the first ones are all finished
    assert trained(study, storage, tmp_path, [0.5, 0.6, 0.7]) == 3
    assert trained(study, storage, tmp_path, [0.0, 0.1, 0.9]) == 2  # the first epoch is warm-up
    assert trained(study, storage, tmp_path, [0.0, 0.65, 0.9]) == 3
    assert study.trials[2].value == 0.1


def test_who_was_pruned_before_is_so_again_and_tells_no_epoch_twice(tmp_path):
    storage = f"sqlite:///{tmp_path / 's.db'}"
    study = optuna.create_study(storage=storage, direction="maximize", study_name="s")
    for accuracy in (0.5, 0.6):
        trained(study, storage, tmp_path, [accuracy] * 3)
    trial = study.ask({})
    Watch(storage, "s", trial._trial_id, startup=2, warmup=1).leave(tmp_path, trial.number)

    def epochs(*accuracies: float) -> int:
        with screen_of(tmp_path, trial.number, None).phase("student small", "distill", 3, 1) as progress:
            for epoch, accuracy in enumerate(accuracies, start=1):
                progress.epoch(epoch, {}, accuracy)
        return len(accuracies)

    assert epochs(0.2) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of what it was told before
        with pytest.raises(Pruned) as first:
            epochs(0.2, 0.1)
    study.tell(study.ask({}), 0.1)  # whatever the others came to meanwhile
    with pytest.raises(Pruned) as again:
        epochs()
    assert str(again.value) == str(first.value)


def test_a_pruned_job_is_a_pruned_trial(tmp_path):
    context = FakeDesk(tmp_path)
    ordinary = context.one
    context.one = lambda words: {**ordinary(words), "status": PRUNED, "error": "stopped after epoch 2"} \
        if len(context.jobs) == 1 else ordinary(words)
    study = search(trials=3).run(context, WORDS)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_nobody_watches_an_ordinary_job(tmp_path):
    assert type(screen_of(tmp_path, 0, None)) is Progress


@pytest.mark.parametrize(("changes", "told"), [
    ({"objectives": []}, "sweep.objectives: got []"),
    ({"objectives": ["parameters", "parameters"]}, "sweep.objectives: got [parameters, parameters], wanted one or several"),
    ({"sampler": "nsga2", "population": 1}, "sweep.population: got 1, wanted a whole number at least 2"),
])
def test_what_cannot_be(changes, told):
    assert search(**changes).problems(kd())[0].startswith(told)


def test_without_a_validation_split_there_is_nothing_to_choose_by():
    settings = replace(kd(), values=kd().values | {"dataset": kd().values["dataset"] | {"validation": 0}})
    assert search().problems(settings) == [
        "dataset.validation: got 0, but a search chooses by the validation split; give dataset.validation=0.1"]
