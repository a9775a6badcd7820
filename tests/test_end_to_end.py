"""The main job as a newcomer runs it: real digits, real networks, the default recipe."""

import subprocess
import sys

import pandas
import pytest

from tests.forks import kdrun


@pytest.mark.slow
def test_the_main_job(tmp_path):
    command = [sys.executable, "-m", "kdrun", "method=fitnets", "student=resnet8", "threads=1", "outputs=out"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "distillation score" in first.stdout
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    rows = pandas.read_csv(folder / "results.csv").set_index("role")
    assert rows.loc["teacher", "model"] == "wrn_16_2"
    assert rows["accuracy"].min() > 0.96  # of 898 pictures nobody was trained on
    assert rows.loc["student", "distillation_factor"] == pytest.approx(691386 / 77754)
    history = pandas.read_csv(folder / "history.csv")
    assert history[history["role"] == "student"]["phase"].unique().tolist() == ["hint", "distill"]
    second = kdrun(command[3:], tmp_path)
    assert second.status == 0
    assert "finished before" in second.err
