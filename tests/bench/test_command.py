"""`kdrun bench` as it is typed."""

import csv

import pytest

from kdrun.cli.commands.bench import main
from kdrun.config.schema import ConfigError

TINY = ["--pair", "cnn:cnn", "--side", "8", "--samples", "2000", "--batch-size", "16", "--rounds", "1", "--steps", "1",
        "--device", "cpu"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """So that what the command sets is taken back."""
    for library in ("OMP", "MKL"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")


@pytest.mark.parametrize(("words", "told"), [
    (["lop"], "part 'lop' is not known; did you mean 'loop'?"),
    (["--methods", "kd,takd"], "--methods: method 'takd' is not known"),
    (["--pair", "resnet20"], "got 'resnet20', wanted TEACHER:STUDENT"),
    (["--pair", "resnet20:resnet9"], "--pair: network 'resnet9' is not known; did you mean 'resnet"),
    (["--rounds", "0"], "--rounds: got '0', wanted a whole number of at least 1"),
    (["--samples", "many"], "--samples: got 'many', wanted a whole number of at least 2000"),
    (["--device", "tpu"], "--device: got 'tpu', wanted auto, cpu or cuda"),
    (["--round", "3"], "unknown argument '--round'; did you mean '--rounds'?"),
])
def test_what_does_not_fit_is_refused(words, told):
    with pytest.raises(ConfigError) as refused:
        main(words)
    assert told in str(refused.value)


def test_rows_are_printed_and_kept(tmp_path, capsys):
    assert main(["loop", "data", "--methods", "kd,at", *TINY, "--csv", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["part"], row["what"], row["bound"]) for row in rows] == [
        ("loop", "kd: a step of the engine", "at most 1.05"), ("loop", "at: a step of the engine", "at most 1.05"),
        ("data", "making a batch", "at most 3 %")]
    assert all(float(row["seconds"]) > 0 for row in rows)
    shown = capsys.readouterr().out
    assert "cnn to cnn, 8x8, batches of 16, threads: 1" in shown
    assert all(row["what"] in shown for row in rows)
