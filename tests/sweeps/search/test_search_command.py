"""Searches as a user starts them."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from kdrun.cli import main
from tests.forks import kdrun
from tests.stress.child import Ending
from tests.toy import TINY


def outcome(capsys, *words: str) -> tuple[int, str]:
    status = main.main(list(words))
    return status, capsys.readouterr().err


@pytest.mark.parametrize(("words", "told"), [
    (["sweep=optuna", "seed=1"], "sweep=optuna chooses what runs of a sweep to do; add -m"),
    (["-m", "sweep=optuna"], "sweep=optuna has nothing to choose from"),
    (["-m", "sweep=optunna", "seed=1,2"], "unknown sweep 'optunna'; did you mean 'optuna'?"),
    (["-m", "sweep=optuna", "sweep.sampler=cmaes", "seed=1,2"], "sweep.sampler: got 'cmaes', wanted one of tpe, nsga2, random"),
    (["-m", "sweep=optuna", "sweep.objectives=[accuracy]", "seed=1,2"], "sweep.objectives: got ['accuracy'], wanted a list"),
    (["-m", "sweep=optuna", "sweep.trails=3", "seed=1,2"], "unknown key 'trails' in sweep; did you mean 'trials'?"),
    (["-m", "sweep=optuna", "dataset.validation=0", "seed=1,2"], "dataset.validation: got 0, but a search chooses by"),
    (["-m", "sweep=optuna", "method.temperature=interval(-1,4)"], "method.temperature: got -1.0, wanted a number above 0"),
    (["-m", "sweep=optuna", "method.temperatur=interval(1,4)"], "unknown key 'temperatur' in method"),
    (["-m", "sweep=optuna", "method=kd,fitnetz"], "unknown method 'fitnetz'; did you mean 'fitnets'?"),
    (["-m", "sweep=optuna", "method.temperature=shuffle(1,2)"], "leave shuffle out"),
    (["-m", "sweep=width_search", "sweep.budget=0"], "sweep.budget: got 0, wanted a whole number at least 1"),
    (["-m", "sweep=width_search", "student=tree", "method=cnn2tree"], "the student tree has no widths"),
])
def test_what_is_wrong_is_one_line_before_any_work(tmp_path, capsys, words, told):
    status, err = outcome(capsys, *words, f"outputs={tmp_path / 'out'}")
    assert status == 2
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_optuna_the_extra_is_named(tmp_path, capsys, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else found(name, *rest))
    status, err = outcome(capsys, "-m", "sweep=optuna", "seed=1,2", f"outputs={tmp_path / 'out'}")
    assert status == 2
    assert "pip install 'kdrun[tune]'" in err


def test_help_does_not_import_optuna():
    command = [sys.executable, "-X", "importtime", "-m", "kdrun", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "kdrun" in told.stderr
    assert "optuna" not in told.stderr


def start(folder: Path, *words: str) -> Ending:
    return kdrun(["-m", *TINY, "outputs=out", *words], folder)


@pytest.mark.slow
def test_a_search_and_the_same_command_again(tmp_path):
    words = ("sweep=optuna", "sweep.startup=2", "recipe.epochs=3", "method=kd,at", "recipe.lr=tag(log,interval(1e-3,0.5))")
    first = start(tmp_path, *words, "sweep.trials=2")
    assert first.status == 0, first.err[-2000:]
    assert "again: kdrun" in first.out
    second = start(tmp_path, *words, "sweep.trials=3")
    assert second.status == 0, second.err[-2000:]
    assert "2 of 3 trials done already" in second.err
    (table,) = (tmp_path / "out" / "sweeps").glob("*.csv")
    rows = pandas.read_csv(table)
    assert rows["trial"].tolist() == [0, 1, 2]
    assert rows["best"].any()
    for run, score in zip(rows["run"], rows["validation_accuracy"], strict=True):
        history = pandas.read_csv(tmp_path / "out" / "runs" / run / "history.csv")
        own = history[(history["role"] == "student") & (history["split"] == "validation") & (history["metric"] == "accuracy")]
        assert score == pytest.approx(own["value"].iloc[-1])
    assert len(list((tmp_path / "out" / "store").glob("*-teacher-*/entry.json"))) == 1  # and a baseline by each trial's rate
    assert len(list((tmp_path / "out" / "store").glob("*-student-*/entry.json"))) == 3
    (database,) = (tmp_path / "out" / "sweeps").glob("*.db")
    with sqlite3.connect(database) as connection:  # a job in a process of its own reported each of its epochs
        assert connection.execute("select count(*) from trial_intermediate_values").fetchone() == (9,)


@pytest.mark.slow
def test_widths_within_a_budget(tmp_path):
    done = start(tmp_path, "sweep=width_search", "sweep.trials=3", "sweep.budget=400", "sweep.startup=3",
                 "student.widths=[8,8,8]", "sweep.factors=[0.25,1]", "sweep.seed=3")
    assert done.status == 0, done.err[-2000:]
    (table,) = (tmp_path / "out" / "sweeps").glob("*.csv")
    rows = pandas.read_csv(table)
    trained = rows[rows["state"] == "finished"]
    assert len(trained) == 3
    assert (trained["parameters"] <= 400).all()
    assert trained["parameters"].is_unique  # three of the four that fit
    untrained = rows[rows["state"] == "untrained"]
    assert ((untrained["parameters"] > 400) | untrained["note"].str.startswith("the same as trial")).all()
    assert trained["best"].any()


@pytest.mark.slow
def test_a_budget_that_nothing_meets(tmp_path):
    done = start(tmp_path, "sweep=width_search", "sweep.budget=20")
    assert done.status == 2
    assert "sweep.budget: got 20, but even the smallest of these students has" in done.err
