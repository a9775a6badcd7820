"""`kdrun resume`: to the same end, by the same code, from folders that may be anybody's."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdrun.cli import main
from kdrun.config import registry
from kdrun.storage import resume
from kdrun.utils.progress import Lines
from tests.forks import forked_workers
from tests.storage.test_disk import TINY, made

HERE = Path(__file__).parents[2]


@pytest.fixture
def kdrun(tmp_path, monkeypatch, capfd):
    """Run kdrun in an empty folder: (exit status, standard output, what it said as kdrun, the rest of standard error)."""
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with forked_workers():
            status = main.main(list(words))
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return status, out, [line for line in err.splitlines() if line.startswith("kdrun: ")], err

    return run


@pytest.fixture
def interrupted(kdrun, tmp_path, monkeypatch):
    """A run that Ctrl-C stopped in the middle of the student's training: its folder."""
    epoch = Lines.epoch

    def signalled(self, done, terms, accuracy):
        epoch(self, done, terms, accuracy)
        if "student" in self.title:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Lines, "epoch", signalled)
    status, _, lines, _ = kdrun(*TINY, "checkpoint_seconds=1000")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (folder,) = (tmp_path / "outputs/runs").iterdir()
    assert status == 130
    assert lines == ["kdrun: finishing the step and saving; once more stops at once",
                     f"kdrun: interrupted in student cnn, epoch 2 of 2; `kdrun resume outputs/runs/{folder.name}` (or the same "
                     "command) goes on"]
    return folder


@pytest.mark.slow
def test_it_goes_on_to_the_same_bytes(kdrun, interrupted, tmp_path):
    status, out, lines, err = kdrun("resume", str(interrupted))
    assert (status, lines) == (0, [])
    assert "student" in out
    assert "teacher cnn: from store" in err
    assert "distill  epoch 1/2" not in err  # it was done before
    assert kdrun(*TINY, "outputs=whole")[0] == 0
    assert made(tmp_path / "outputs") == made(tmp_path / "whole")
    status, out, *_ = kdrun("resume", str(interrupted))
    assert (status, out) == (0, f"{interrupted} is finished\n")
    assert kdrun(*TINY)[0] == 0  # nor does the command line do it again


@pytest.mark.slow
def test_the_same_command_goes_on_too_and_a_moved_folder_as_well(kdrun, interrupted, tmp_path):
    shutil.copytree(tmp_path / "outputs", tmp_path / "moved")
    moved = tmp_path / "moved/runs" / interrupted.name
    assert kdrun(*TINY)[0] == 0
    status, *_ = kdrun("resume", str(moved))
    assert status == 0
    assert made(tmp_path / "outputs") == made(tmp_path / "moved")


def test_what_is_no_run_is_a_line(kdrun, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/asked.json").write_text('{"words": 3')
    for folder, reason in (("nothing", "is not there"), (".", "is not the folder of a run or a sweep"), ("own", "is damaged")):
        status, out, lines, _ = kdrun("resume", folder)
        assert (status, out, len(lines)) == (2, "", 1)
        assert reason in lines[0]


@pytest.mark.slow
def test_other_code_is_refused_begun_anew_or_mixed_as_one_says(kdrun, interrupted, monkeypatch):
    told = json.loads((interrupted / resume.ASKED).read_text())
    told["by"] |= {"kdrun": "0.0.1", "torch": "2.0"}
    (interrupted / resume.ASKED).write_text(json.dumps(told))
    status, _, lines, _ = kdrun("resume", str(interrupted))
    assert (status, len(lines)) == (2, 1)
    assert "kdrun 0.0.1, now" in lines[0]
    assert "torch 2.0, now" in lines[0]
    assert "kdrun resume --anyway" in lines[0]
    assert list((interrupted / "checkpoints").iterdir())
    kept = shutil.copytree(interrupted, interrupted.with_name("kept"))
    status, _, _, err = kdrun("resume", "--anyway", str(interrupted))
    assert status == 0
    assert "going on from checkpoints that something else made (kdrun 0.0.1" in err
    assert "epoch 1/2" not in err
    shutil.rmtree(interrupted)
    kept.rename(interrupted)
    status, _, _, err = kdrun(*TINY)
    assert status == 0
    assert "beginning anew" in err
    assert "student cnn: distill  epoch 1/2" in err


def test_a_changed_method_is_other_code():
    now = {"kdrun": "1", "torch": "2", "device": "cpu", "code": "abc"}
    assert resume.differences(now, now) == ""
    assert resume.differences(now | {"code": "x"}, now) == "kdrun's code or that of your own modules"
    assert resume.differences(now | {"device": "cuda"}, now) == "device cuda, now cpu"
    assert resume.differences({}, now) != ""


SPY = "def reader(**_):\n    open('it was run', 'w')\n    raise ValueError('no data')\n"


def test_a_folder_of_anybodys_runs_no_code(kdrun, interrupted, tmp_path):
    """Settings in a run's folder name what is to be called: only what a config names is called."""
    (tmp_path / "spy.py").write_text(SPY)
    told = json.loads((interrupted / resume.ASKED).read_text())
    for place, target in (("dataset", "spy.reader"), ("method", "os.system"), ("student", "kdrun.cli.main.main")):
        changed = json.loads(json.dumps(told))
        changed["settings"][place]["_target_"] = target
        (interrupted / resume.ASKED).write_text(json.dumps(changed))
        status, _, lines, _ = kdrun("resume", str(interrupted))
        assert (status, len(lines)) == (2, 1)
        assert f"its settings name {target}, which no config here does" in lines[0]
        assert not (tmp_path / "it was run").exists()
    changed = json.loads(json.dumps(told))
    changed["settings"]["student"]["name"] = "../../elsewhere"
    (interrupted / resume.ASKED).write_text(json.dumps(changed))
    status, _, lines, _ = kdrun("resume", str(interrupted))
    assert (status, len(lines)) == (2, 1)
    assert "student.name: got '../../elsewhere', wanted a name" in lines[0]
    changed = told | {"settings": told["settings"] | {"dataset": told["settings"]["dataset"] | {"_target_": "spy.reader"}}}
    (interrupted / resume.ASKED).write_text(json.dumps(changed))
    kdrun("resume", "--trust", str(interrupted))
    assert (tmp_path / "it was run").exists()
    (tmp_path / "it was run").unlink()
    own = tmp_path / "conf/dataset"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: spy.reader\n")
    kdrun("resume", "--config-dir", str(own.parent), str(interrupted))
    assert (tmp_path / "it was run").exists()


@pytest.mark.parametrize("words", [["-m", "method._target_=os.system"], ["-m", "hydra.launcher._target_=os.system"],
                                   ["-m", "--config-dir", "/somebody", "method=kd"]])
def test_a_sweeps_words_run_no_code_either(kdrun, tmp_path, words):
    resume.begin_sweep(tmp_path / "sweep", words)
    status, _, lines, _ = kdrun("resume", "sweep")
    assert (status, len(lines)) == (2, 1)
    assert "which may run any code" in lines[0]


def test_a_sweep_is_gone_on_with_where_it_was_started(kdrun, tmp_path, monkeypatch):
    resume.begin_sweep(tmp_path / "sweep", ["-m", "seed=1,2"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, _, lines, _ = kdrun("resume", str(tmp_path / "sweep"))
    assert (status, len(lines)) == (2, 1)
    assert f"was started in {tmp_path}" in lines[0]


@pytest.mark.slow
def test_a_sweep_stops_keeps_what_is_done_and_goes_on(kdrun, tmp_path):
    """With real signals to real processes."""
    words = ["-m", *TINY, "recipe.epochs=2,40"]
    process = subprocess.Popen([sys.executable, "-m", "kdrun", *words], cwd=tmp_path, text=True, stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "epoch 5/40" in line and "teacher" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, "".join(said)
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    told = [line for line in said if line.startswith("kdrun: ")]
    assert told[-1] == (f"kdrun: interrupted; 1 of 2 jobs done; `kdrun resume outputs/sweeps/{sweep.name}` (or the same "
                        "command) goes on\n")
    assert any("interrupted in teacher cnn" in line for line in told[:-1])
    assert len(list(tmp_path.glob("outputs/runs/*/run.json"))) == 1
    status, _, lines, _ = kdrun("resume", f"outputs/sweeps/{sweep.name}")
    assert (status, lines) == (0, [])
    assert len(list(tmp_path.glob("outputs/runs/*/run.json"))) == 2
    assert [folder.name for folder in (tmp_path / "outputs/sweeps").iterdir()] == [sweep.name]
