"""The command line as a person uses it: what it prints, what it returns, what a sweep survives, what can be added."""

import json
import subprocess
import sys

import pytest

from kdrun import __version__
from kdrun.cli import main
from kdrun.config import registry
from tests.forks import forked_workers

# a few seconds a run, or less
TINY = ["recipe=smoke", "dataset.train_limit=48", "recipe.batch_size=16", "teacher=cnn", "teacher.widths=[6,8,12]",
        "student=cnn", "student.widths=[4,6,8]", "threads=1", "device=cpu"]
DIVERGES = "recipe.lr=1e30"


@pytest.fixture
def kdrun(tmp_path, monkeypatch, capfd):
    """Run kdrun in an empty folder: (exit status, standard output, standard error)."""
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with forked_workers():
            status = main.main(list(words))
        return status, *capfd.readouterr()

    return run


def runs(folder):
    """When each finished run was written, by its folder's name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("outputs/runs/*/run.json")}


def test_version(kdrun):
    assert kdrun("--version") == (0, f"kdrun {__version__}\n", "")


def test_listing_is_light():
    code = ("import sys; from kdrun.cli import listing, main\n"
            "for words in (['--version'], ['list'], *(['list', kind] for kind in listing.TABLES)):\n"
            "    assert main.main(words) == 0, words\n"
            "heavy = {'torch', 'torchvision', 'pandas', 'sklearn', 'matplotlib', 'hydra'} & set(sys.modules)\n"
            "assert not heavy, heavy\n")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    for name in ("fitnets", "wrn_16_2", "cifar100", "offline", "smoke"):
        assert name in told.stdout


def test_module_is_the_same_command():
    told = subprocess.run([sys.executable, "-m", "kdrun", "--version"], capture_output=True, text=True, check=False)
    assert told.stdout == f"kdrun {__version__}\n"


def test_refused_from_a_shell(tmp_path):
    told = subprocess.run([sys.executable, "-m", "kdrun", "method.temperatur=2"], capture_output=True, text=True,
                          check=False, cwd=tmp_path)
    assert told.returncode == 2
    assert told.stderr == "kdrun: unknown key 'temperatur' in method; did you mean 'temperature'?\n"
    assert list(tmp_path.iterdir()) == []


def test_config_is_shown_and_nothing_runs(kdrun, tmp_path):
    status, out, _ = kdrun("method=at", "--cfg", "job")
    assert status == 0
    assert "kdrun.methods.attention.at.AT" in out
    assert not (tmp_path / "outputs/store").exists()


@pytest.mark.slow
def test_a_run_tells_what_it_made_and_is_not_done_twice(kdrun, tmp_path):
    status, out, _ = kdrun(*TINY)
    assert status == 0
    for word in ("teacher", "baseline", "student", "results.csv", "calibration.csv", "history.csv", "per_class.csv"):
        assert word in out
    before = runs(tmp_path)
    assert len(before) == 1
    status, again, err = kdrun(*TINY)
    assert status == 0
    assert "finished before" in err
    assert again == out
    assert runs(tmp_path) == before
    status, _, err = kdrun(*TINY, "rerun=true")
    assert status == 0
    assert "finished before" not in err
    after = runs(tmp_path)
    assert after.keys() == before.keys()
    assert after != before


def test_a_failure_is_a_line_a_traceback_on_file_and_status_1(kdrun, tmp_path):
    status, out, err = kdrun(*TINY, DIVERGES)
    assert status == 1
    (trace,) = tmp_path.glob("outputs/runs/*/traceback.txt")
    (line,) = [line for line in err.splitlines() if line.startswith("kdrun: ")]
    assert "Diverged" in line
    assert str(trace.relative_to(tmp_path)) in line
    assert "Traceback" not in out + err
    assert trace.read_text().startswith("Traceback")
    assert not (trace.parent / "run.json").exists()


@pytest.mark.slow
def test_a_sweep_survives_a_job_that_fails_and_goes_on_where_it_stopped(kdrun, tmp_path):
    words = ["-m", *TINY, f"{DIVERGES},0.05", "seed=1,2"]
    status, out, err = kdrun(*words)
    assert status == 1
    assert len(runs(tmp_path)) == 2
    last = err.splitlines()[-2:]
    for line, seed in zip(last, (1, 2), strict=True):
        assert line.startswith("kdrun: job ")
        assert f"seed={seed}" in line
        assert "recipe.lr=1e" in line
        assert "Diverged" in line
    assert "Traceback" not in out + err
    statuses = [json.loads(path.read_text())["status"] for path in sorted(tmp_path.glob("outputs/sweeps/*/jobs/*.json"))]
    assert sorted(statuses) == [0, 0, 1, 1]
    before = runs(tmp_path)
    status, _, err = kdrun(*words)
    assert status == 1
    assert err.count("finished before") == 2
    assert runs(tmp_path) == before


def test_a_sweep_with_a_wrong_job_starts_none(kdrun, tmp_path):
    status, _, err = kdrun("-m", *TINY, "method=kd,dkd", "method.temperature=4,-4")
    assert status == 2
    assert "method.temperature: got -4" in err
    assert list(tmp_path.iterdir()) == []


MINE = '''
"""A data set, a network and a method of one's own."""
import torch
from torch import nn
from kdrun.config.constraints import Positive
from kdrun.data.samples import Samples, Source
from kdrun.methods.base import Method
from kdrun.models.staged import StagedNet

def stripes(*, count: int) -> Source:
    labels = torch.arange(count) % 2
    images = torch.rand(count, 8, 8, 1, generator=torch.Generator().manual_seed(0)) / 2
    images[labels == 1, ::2] += 0.5
    return Source(Samples(images, labels), Samples(images, labels), ("plain", "striped"))

class Thin(StagedNet):
    def __init__(self, *, width: int, classes: int, channels: int):
        super().__init__(nn.Identity(), [nn.Conv2d(channels, width, 3), nn.Conv2d(width, width, 3)], width, classes)

class Shout(Method):
    """Say the teacher's answer louder (nobody, never)."""
    knowledge = ("response",)
    source = "Mine"

    def __init__(self, *, loudness: Positive):
        super().__init__()
        self.loudness = loudness

    def loss(self, cast, batch):
        apart = cast.student(batch).logits - self.loudness * cast.teacher(batch).logits
        return {"shout": apart.square().mean()}
'''


def test_ones_own_data_network_and_method(kdrun, tmp_path):
    own = tmp_path / "conf"
    for group in ("dataset", "model", "method"):
        (own / group).mkdir(parents=True)
    (tmp_path / "things_of_mine.py").write_text(MINE)
    (own / "dataset/stripes.yaml").write_text(
        "_target_: things_of_mine.stripes\ncount: 60\nname: stripes\nvalidation: 0.1\nsplit_seed: 0\ntrain_limit: null\n"
        "crop: 0\nflip: false\nmean: null\nstd: null\n")
    (own / "model/thin.yaml").write_text("_target_: things_of_mine.Thin\nname: thin\nwidth: 4\n")
    (own / "method/shout.yaml").write_text("_target_: things_of_mine.Shout\nloudness: 2.0\n")
    words = ["--config-dir", str(own), "dataset=stripes", "student=thin", "teacher=thin", "teacher.width=8", "method=shout",
             "recipe=smoke", "threads=1"]
    status, _, err = kdrun(*words)
    assert status == 0, err
    (told,) = tmp_path.glob("outputs/runs/*/run.json")
    student = next(row for row in json.loads(told.read_text())["rows"] if row["role"] == "student")
    assert (student["method"], student["model"], student["dataset"]) == ("shout", "thin", "stripes")
    status, out, _ = kdrun("list", "methods", "--config-dir", str(own))
    assert status == 0
    assert "shout" in out
    status, _, err = kdrun(*words, "method.loudnes=3", "teacher.width=0.5", "dataset.count=many")
    assert status == 2
    assert "unknown key 'loudnes' in method; did you mean 'loudness'?" in err
    assert "teacher.width: got 0.5, wanted a whole number" in err
    assert "dataset.count: got 'many', wanted a whole number" in err


def test_a_slip_is_told_before_torch_is_imported(tmp_path):
    slips = [["method=fitnet", "seed=-1"], ["method.temperatur=3"], ["-m", "method=kd,att", "seed=1,2"], ["student=nonsense"]]
    code = (f"import sys; from kdrun.cli import main\nfor words in {slips!r}:\n    assert main.main(words) == 2\n"
            "assert 'torch' not in sys.modules\n")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert [line.partition(";")[0] for line in told.stderr.splitlines()] == [
        "kdrun: unknown method 'fitnet'", "kdrun: seed: got -1, wanted a whole number at least 0",
        "kdrun: unknown key 'temperatur' in method", "kdrun: unknown method 'att'", "kdrun: unknown student 'nonsense'"]
