"""What lies in somebody else's folder names no code that is run and no place outside; nor does a command line, but its own."""

import contextlib
import functools
import json
import os
import sys

import pytest

from kdrun.cli import main, overrides
from kdrun.config import registry, schema, targets
from kdrun.config.constraints import FileName, misfit
from kdrun.config.identity import run_folder
from kdrun.config.instantiation import instantiate, locate
from kdrun.data.samples import Source
from kdrun.storage import resume
from kdrun.storage.finished import finished
from kdrun.sweeps.job import recorded
from kdrun.utils import names
from tests.storage.test_disk import TINY
from tests.toy import toy_settings

PAYLOAD = """
from pathlib import Path
Path("EXECUTED").touch()
def build(**_):
    raise ValueError("it was built")
"""
SWEEPER = """
_target_: hydra_plugins.kdrun_sweeper.KdrunSweeper
max_batch_size: null
params: {dataset._target_: payload.build}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with somebody's sweep, and an evil config folder: Hydra takes its sweeper, which names the payload."""
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "payload", raising=False)
    for place in (tmp_path, tmp_path / "evil"):
        (place / "hydra/sweeper").mkdir(parents=True)
        (place / "payload.py").write_text(PAYLOAD)
    (tmp_path / "evil/hydra/sweeper/kdrun.yaml").write_text(SWEEPER)
    (tmp_path / "evil/method").mkdir()
    (tmp_path / "evil/method/mine.yaml").write_text("_target_: payload.build\n")
    return tmp_path


@pytest.fixture
def refused(folder, capfd):
    """Run kdrun, which refuses and runs no payload: the lines it told."""
    def run(*words):
        status = main.main(list(words))
        out, err = capfd.readouterr()
        assert not (folder / "EXECUTED").exists(), "the payload was run"
        assert "Traceback" not in out + err
        assert status == 2, err
        return err.splitlines()
    return run


def sweep_of(folder, words, **more):
    """The record of a sweep in an outputs folder."""
    place = folder / "outputs/sweeps/theirs"
    place.mkdir(parents=True)
    (place / resume.ASKED).write_text(json.dumps({"words": words, "cwd": str(folder), **more}))
    return "outputs/sweeps/theirs"


@pytest.mark.parametrize("words", [
    ["-cd=evil"], ["-cd", "evil"], ["--config-dir=evil"], ["--config-di=evil"], ["--config-di", "evil"], ["--config-d=evil"],
    ["hydra.searchpath=[file://evil]"], ["+hydra.searchpath=[evil]"], ["hydra/sweeper=basic"], ["+x@hydra.sweeper=kd"],
    ["dataset._target_=payload.build"], ["+method.x={_target_: payload.build}"],
    ["+method.x={y: [{_target_: payload.build}]}"]], ids=" ".join)
def test_a_recorded_sweep_names_no_code(words, folder, refused):
    lines = refused("resume", sweep_of(folder, ["-m", *words, "recipe=smoke", "method=kd"]))
    assert all("may run any code" in line and "--trust" in line for line in lines)


def test_the_folder_of_a_recorded_sweep_is_not_looked_in_unless_it_is_given_too(folder, refused, capfd):
    sweep = sweep_of(folder, ["-m", "method=mine", "recipe=smoke"], config_dirs=["evil"])
    lines = refused("resume", sweep)
    assert f"--config-dir {folder}/evil" in lines[0]
    assert main.main(["resume", "--config-dir", "evil", sweep]) == 2
    assert "payload.build is not a kdrun.methods.base.Method" in capfd.readouterr().err  # looked in, and yet no method
    assert (folder / "EXECUTED").exists()


@pytest.mark.parametrize(("words", "reason"), [
    (["--cfg", "job"], "is not the command line of a sweep"), (["--info"], "is not the command line of a sweep"),
    (["-m", "--package", "x"], "is not the command line of a sweep"),
    (["method=kd"], "is not the command line of a sweep")], ids=str)
def test_a_recorded_sweep_is_nothing_but_a_sweep(words, reason, folder, refused):
    assert reason in refused("resume", sweep_of(folder, ["recipe=smoke", *words]))[0]


def test_a_recorded_sweep_reaches_nowhere_else(folder, refused):
    words = ["outputs=elsewhere", "sweep=optuna", "sweep.storage=/nowhere/x.db", "launch=slurm", "seed=1,2", "recipe=smoke"]
    lines = refused("resume", sweep_of(folder, ["-m", *words]))
    for reason in (f"write to {folder}/elsewhere", "write to /nowhere/x.db", "send jobs to kdrun.sweeps.launchers.slurm.Slurm"):
        assert any(reason in line for line in lines)
    assert not (folder / "elsewhere").exists()


def test_a_sweep_records_overrides_and_folders_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resume.begin_sweep(tmp_path / "sweep", ["seed=1,2"], ["mine"])
    told = json.loads((tmp_path / "sweep" / resume.ASKED).read_text())
    assert (told["words"], told["config_dirs"]) == (["-m", "seed=1,2"], ["mine"])


@pytest.mark.parametrize("option", [["-cd=own"], ["--config-di", "own"], ["--config-dir=own"]], ids=" ".join)
def test_a_live_config_folder_is_found_however_hydra_takes_it(option, folder, refused):
    (folder / "own/recipe").mkdir(parents=True)
    (folder / "own/recipe/mine.yaml").write_text("defaults: [smoke, _self_]\nepochs: many\n")
    assert refused(*option, "recipe=mine", *[word for word in TINY if "recipe" not in word])[0].startswith(
        "kdrun: recipe.epochs: got 'many'")


NESTED = "{_target_: payload.build}"


PAIR = ["dataset=pair", "dataset.name=x"]


@pytest.mark.parametrize("cases", [
    {f"method.temperature={NESTED}": "method.temperature: got {_target_: 'payload.build'}, wanted a number",
     f"method.form={NESTED}": "method.form: got {_target_: 'payload.build'}, wanted one of",
     f"student.depth={NESTED}": "student.depth: got {_target_: 'payload.build'}, wanted a whole number",
     f"dataset.test={NESTED}": "dataset.test: got {_target_: 'payload.build'}, wanted a number",
     "scheme._target_=os.system": "scheme._target_: os.system is not a kdrun.methods.base.Scheme",
     "teacher._target_=os.system": "teacher._target_: os.system is neither a torch.nn.Module nor a function that returns one",
     "launch._target_=subprocess.Popen": "launch._target_: subprocess.Popen is not a launcher",
     "sweep._target_=subprocess.Popen": "sweep._target_: subprocess.Popen is not a search"},
    {"method=takd": "", f"method.base={NESTED}": "method.base._target_: payload.build is not a kdrun.methods.base.Method",
     "dataset._target_=os.system": "dataset._target_: os.system is not a function that returns a",
     "+student.classes=7": "student.classes: got 7, but that comes from the data"},
    {"method._target_=os.system": "method._target_: os.system is not a kdrun.methods.base.Method",
     **dict.fromkeys(PAIR, ""), "+dataset.base.tset=1": "unknown key 'tset' in dataset.base; did you mean 'test'?",
     "dataset.base.crop=-1": "dataset.base.crop: got -1, wanted a whole number at least 0",
     f"dataset.base.name={NESTED}": "dataset.base.name: got {_target_: 'payload.build'}, wanted a text"},
    {**dict.fromkeys(PAIR, ""),
     "dataset.base._target_=shutil.rmtree": "dataset.base._target_: shutil.rmtree is not a function that returns"}],
    ids=["numbers", "method", "base", "base's reader"])
def test_nothing_is_called_that_is_not_what_its_place_wants(cases, folder, refused):
    (folder / "payload.py").write_text("def build(**_):\n    open('EXECUTED', 'w')\n")  # importing it is no harm here
    lines = refused(*cases, "recipe=smoke", "threads=1")
    for told in filter(None, cases.values()):
        assert any(line.startswith(f"kdrun: {told}") for line in lines), lines


@pytest.mark.parametrize("kind", ["method", "scheme", "network", "reader", "launcher", "search"])
def test_instantiate_calls_nothing_of_another_kind(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for target in ("os.mkdir", "pathlib.Path", "tests.test_hostile.sweep_of"):
        with pytest.raises(ValueError, match=r"is n(ot|either)"):
            instantiate({"_target_": target, "path": "made"}, kind)
    assert list(tmp_path.iterdir()) == []


def test_every_target_that_ships_is_of_the_kind_of_its_place(monkeypatch):
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    for group, kind in {"dataset": "reader", "model": "network", **targets.PLACES}.items():
        for name in registry.options(group):
            if target := registry.load(group, name).get("_target_"):
                locate(target, kind)


def test_a_decorated_reader_is_a_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where this file is not the user's own

    @functools.cache
    def read() -> Source:
        """Nothing."""

    @functools.cache
    def other() -> int:
        """Nothing."""

    assert targets.fits(read, "reader")
    assert not targets.fits(other, "reader")


BAD_NAMES = ["../x", "a/b", "..", ".", "", " ", ".hidden", "/etc/x", "a\\b", "a\nb", "a*", "a" * 81, "\ud800"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leads_elsewhere(name):
    assert misfit(name, FileName) == names.WANTED
    if len(name) <= 80:
        with pytest.raises(ValueError, match="cannot be in the name of a file"):
            names.file_name("digits", name, "s1")


@pytest.mark.parametrize("name", ["kd", "resnet20x0.5", "timm.vit_base_patch16_clip_quickgelu_224.openai", "Ziffern (grün)"])
def test_names_that_are_in_use_are_none_of_those(name):
    assert misfit(name, FileName) is None
    assert names.file_name("digits", name, "s1") == f"digits-{name}-s1"


def test_a_name_that_is_too_long_with_others_is_told():
    with pytest.raises(ValueError, match="27 bytes too long"):
        names.file_name(*["a" * 80] * 3)


def test_names_of_settings_are_checked(refused, folder):
    keys = ("dataset.name", "dataset.base.name", "teacher.name", "student.name")
    lines = refused(*(f"{key}=../../x" for key in keys), "dataset=pair", "recipe=smoke", "threads=1")
    for key in keys:
        assert f"kdrun: {key}: got '../../x', wanted {names.WANTED}" in lines
    assert not (folder / "outputs").exists()


HOSTILE = '{"status": "finished", "rows": [{"role": "../x"}], "entries": 3}'


@pytest.mark.parametrize("content", ["[]", "{}", "null", '"x"', "{", "[" * 100_000, HOSTILE, "\x00"])
def test_a_damaged_run_json_is_no_finished_run(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    assert finished(tmp_path, print) is None
    (tmp_path / resume.ASKED).write_text(content)
    with pytest.raises(schema.ConfigError, match=r"asked\.json is damaged"):
        resume.asked_in(tmp_path)


def test_a_damaged_asked_json_does_not_stop_the_command_that_makes_it_again(tmp_path):
    (tmp_path / resume.CHECKPOINTS).mkdir()
    (tmp_path / resume.ASKED).write_text("{")
    notes = []
    resume.begin(tmp_path, toy_settings("kd"), "cpu", notes.append)
    assert len(notes) == 1
    assert "beginning anew" in notes[0]
    assert not (tmp_path / resume.CHECKPOINTS).exists()  # nobody knows what made them
    assert resume.asked_in(tmp_path)["choices"]["method"] == "kd"


def test_what_is_in_the_way_of_a_run_is_told_before_it(folder, refused):
    settings = toy_settings("kd", f"outputs={folder}/outputs")
    place = run_folder(settings)
    (place / "kdrun.log").mkdir(parents=True)
    (place / resume.CHECKPOINTS).touch()
    (folder / "outputs/store").touch()
    os.mkfifo(place / "run.json")
    told = [line.split(",")[0] for line in overrides.blocked(place)]
    assert told == [f"{folder}/outputs/store is no folder", f"{place}/checkpoints is no folder",
                    f"{place}/run.json is no regular file", f"{place}/kdrun.log is no regular file"]
    assert refused(*TINY)[0] == f"kdrun: {folder}/outputs/store is no folder, and kdrun writes into one there; move it or " \
                                "remove it"


def test_a_recorded_run_has_choices_that_there_are(folder, refused):
    settings = toy_settings("kd", f"outputs={folder}/outputs")
    place = folder / "outputs/runs/theirs"
    resume.begin(place, settings, "cpu", print)
    told = json.loads((place / resume.ASKED).read_text())
    told["choices"] |= {"method": "kdd", "dataset": "../x"}
    del told["choices"]["recipe"]
    (place / resume.ASKED).write_text(json.dumps(told))
    lines = refused("resume", str(place))
    assert [line.split("its ")[1] for line in lines] == [
        "dataset is '../x', and there is no such choice here",
        "method is 'kdd', and there is no such choice here; did you mean 'kd'?",
        "recipe is '', and there is no such choice here"]


def test_a_damaged_record_of_a_job_is_left_out_of_the_report(tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    for name, content in {"0": "[]", "1": "{", "x": "{}", "2": '{"job": 2, "status": "0"}'}.items():
        (tmp_path / "jobs" / f"{name}.json").write_text(content)
    os.mkfifo(tmp_path / "jobs/3.json")
    job = {"job": 4, "status": 1, "error": "no", "folder": "f", "score": None, "overrides": ["seed=1"]}
    (tmp_path / "jobs/4.json").write_text(json.dumps(job))
    assert recorded(tmp_path) == [job]
    assert capsys.readouterr().err.count("is damaged") == 5


def test_an_output_that_takes_nothing_is_a_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main.main(["list"]) == 1
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert capsys.readouterr().err == "kdrun: cannot write to the standard output: No space left on device\n"


def test_a_current_folder_that_is_gone_is_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main.main(["results"]) == 2
    assert capsys.readouterr().err == "kdrun: the current folder is not there any more; go to another one\n"
    assert main.main(["--version"]) == 0
