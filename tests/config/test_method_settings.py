"""Settings of one method in a sweep: whose jobs they are of, and how many."""

import json

import pytest

from kdrun.cli import main, overrides
from kdrun.config import method_settings
from kdrun.config.registration import register
from kdrun.config.schema import ConfigError
from kdrun.sweeps.search.space import parsed, read
from tests.forks import forked_workers
from tests.toy import TINY


def jobs(*words: str) -> list[list[str]]:
    return method_settings.jobs(parsed(words), lambda own: method_settings.chosen(own) or "kd")


@pytest.mark.parametrize(("key", "method"), [
    ("method.kd.temperature", "kd"), ("method.temperature", None), ("method.kd", None), ("method.base.temperature", None),
    ("method.nothing.temperature", None), ("student.kd.width", None)])
def test_whose_a_setting_is(key, method):
    assert method_settings.owner(key) == method


def test_values_of_one_method_multiply_its_jobs_alone():
    assert jobs("method=kd,at", "seed=1,2", "method.kd.temperature=2,8", "method.at.p=1") == [
        ["method=kd", "seed=1", "method.temperature=2"], ["method=kd", "seed=1", "method.temperature=8"],
        ["method=kd", "seed=2", "method.temperature=2"], ["method=kd", "seed=2", "method.temperature=8"],
        ["method=at", "seed=1", "method.p=1"], ["method=at", "seed=2", "method.p=1"]]


def test_a_methods_own_setting_stands_before_that_of_all():
    assert jobs("method.temperature=3", "method.kd.temperature=5", "seed=1") == [["seed=1", "method.temperature=5"]]


def test_a_setting_of_a_method_that_no_job_has():
    with pytest.raises(ConfigError, match=r"method\.rkd\.angle_weight=3: it is a setting of method=rkd, and what is to be "
                                      r"run has method=kd, at"):
        jobs("method=kd,at", "method.rkd.angle_weight=3")


def test_a_search_chooses_a_methods_setting_for_its_trials_alone():
    space = read(parsed(["method=kd,at", "method.kd.temperature=interval(1,9)", "method.at.p=1"]))
    assert space.words({"method": "kd", "method.kd.temperature": 2.5}) == ["method=kd", "method.temperature=2.5"]
    assert space.words({"method": "at", "method.kd.temperature": 2.5}) == ["method=at", "method.p=1"]
    assert ["method=kd", "method.temperature=9.0"] in space.probes()
    with pytest.raises(ConfigError, match="it is a setting of method=rkd"):
        read(parsed(["method=kd,at", "method.rkd.angle_weight=interval(1,2)"]))


def test_a_run_takes_settings_of_its_own_method_alone():
    register([])
    assert overrides.settled(["method=at", "method.at.p=1"], []) == ["method=at", "method.p=1"]
    assert overrides.settled(["method.kd.temperature=2"], []) == ["method.temperature=2"]  # kd is the default
    with pytest.raises(ConfigError, match=r"method\.kd\.temperature=2: it is a setting of method=kd, and what is to be run has "
                                      r"method=at"):
        overrides.settled(["method=at", "method.kd.temperature=2"], [])


@pytest.mark.slow
def test_a_sweep_with_settings_of_one_method(tmp_path):
    words = [*TINY, "dataset.train_limit=20", "recipe.epochs=1", f"outputs={tmp_path}"]
    with forked_workers():
        assert main.main(["-m", *words, "method=kd,at", "method.kd.temperature=2,8"]) == 0
    methods = [json.loads(run.read_text())["settings"]["method"] for run in (tmp_path / "runs").glob("*/run.json")]
    assert sorted(method.get("temperature", 0) for method in methods) == [0, 2, 8]
