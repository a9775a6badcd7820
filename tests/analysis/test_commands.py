"""`kdrun tables` and `kdrun results` as a person uses them."""

import csv
import json
import subprocess
import sys

import pandas
import pytest

from kdrun.analysis.tables import TABLES
from kdrun.cli import main
from tests.analysis.runs import write_run


@pytest.fixture
def kdrun(tmp_path, monkeypatch, capsys):
    """Run kdrun where two seeds of a method lie in outputs/, and an unfinished run: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        write_run(tmp_path / "outputs", "kd", seed, 0.9 + seed / 100)
    (tmp_path / "outputs/runs/half").mkdir()

    def run(*words):
        status = main.main(list(words))
        return status, *capsys.readouterr()

    return run


def test_tables_are_written_and_printed(kdrun, tmp_path):
    status, out, err = kdrun("tables")
    assert status == 0
    assert {path.name for path in (tmp_path / "outputs/tables").iterdir()} == {
        f"{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex", "html")}
    for said in ("Table 1", "Table 6", "League table", "Worked example", "possible", "91.50 ± 0.71"):
        assert said in out
    assert err == "kdrun: skipped outputs/runs/half: unfinished (no run.json yet); left out\n"


def test_published_tables_need_no_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["tables", "gou_6", "--own"]) == 0
    out, err = capsys.readouterr()
    assert "WRN-16-1" in out
    assert err == ""
    assert (tmp_path / "outputs/tables/gou_6.tex").is_file()


def test_tables_asked_for(kdrun, tmp_path):
    status, out, _ = kdrun("tables", "league", "--where", "seed == 2", "--alpha", "1", "--size-unit", "bits", "--test", "t")
    assert status == 0
    assert {path.stem for path in (tmp_path / "outputs/tables").iterdir()} == {"league"}
    assert "92.00" in out
    assert "alpha 1, sizes in bits" in out
    with (tmp_path / "outputs/tables/league.csv").open() as file:
        row = [row for row in csv.DictReader(file) if row["measured_by"] == "you"][-1]
    assert (row["method"], float(row["score"]), row["seeds"]) == ("kd", 0.25, "1")


def test_quiet(kdrun):
    status, out, _ = kdrun("tables", "--quiet")
    assert (status, out) == (0, "outputs/tables\n")


def test_results_are_printed(kdrun):
    status, out, err = kdrun("results", "--where", 'role == "student"', "--columns", "seed,variant,accuracy", "--sort",
                             "accuracy", "--reverse")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["variant:", "kd"], ["seed", "accuracy"], ["2", "0.92"], ["1", "0.91"], ["2", "rows"]]
    assert "half" in err


def test_results_in_files(kdrun, tmp_path):
    status, out, _ = kdrun("results", "--csv", "all.csv", "--json", "sub/all.json", "--where", 'role == "student"')
    assert (status, out) == (0, "all.csv\nsub/all.json\n")
    table = pandas.read_csv(tmp_path / "all.csv")
    assert table["accuracy"].tolist() == [0.91, 0.92]
    assert {"comparison", "variant", "folder", "baseline_headline"} <= set(table.columns)
    assert [row["seed"] for row in json.loads((tmp_path / "sub/all.json").read_text())] == [1, 2]


def test_parquet(kdrun, tmp_path):
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    assert kdrun("results", "--parquet", "all.parquet")[0] == 0
    assert len(pandas.read_parquet(tmp_path / "all.parquet")) == 6


def test_parquet_without_its_library(kdrun, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = kdrun("results", "--parquet", "all.parquet")
    assert status == 2
    assert "needs pyarrow; pip install 'kdrun[parquet]'" in err
    assert not (tmp_path / "all.parquet").exists()


def test_no_rows(kdrun):
    assert kdrun("results", "--where", "seed == 7")[:2] == (0, "no rows\n")


@pytest.mark.parametrize(("words", "told"), [
    (["tables", "lege"], "there is no table 'lege'; did you mean 'league'?"),
    (["tables", "--alpha", "2"], "argument --alpha: got '2', wanted a number from 0 to 1"),
    (["tables", "--alpha", "nan"], "argument --alpha: got 'nan', wanted a number from 0 to 1"),
    (["tables", "--sort", "speed"], "argument --sort: invalid choice: 'speed'"),
    (["tables", "--sise-unit", "bits"], "unknown argument '--sise-unit'; did you mean '--size-unit'?"),
    (["tables", "--outputs", "nowhere"], "there is no folder nowhere; run something first, or name the folder by --outputs"),
    (["tables", "--where", "sed == 1"], "--where: there is no column 'sed'; did you mean 'seed'?"),
    (["results", "--columns", "seed,acuracy"], "there is no column 'acuracy'; did you mean 'accuracy'?"),
    (["results", "--sort", "acuracy"], "there is no column 'acuracy'; did you mean 'accuracy'?"),
    (["results", "--csv", "outputs"], "--csv: outputs is a folder, wanted a file"),
])
def test_what_is_refused(kdrun, tmp_path, words, told):
    status, out, err = kdrun(*words)
    assert (status, out) == (2, "")
    assert err.startswith("kdrun: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "outputs/tables").exists()


def test_collecting_needs_no_torch(kdrun, tmp_path):
    code = ("import sys; from kdrun.cli import main\n"
            "assert main.main(['results']) == 0 and main.main(['tables', '--quiet']) == 0\n"
            "heavy = {'torch', 'torchvision', 'sklearn', 'matplotlib', 'hydra'} & set(sys.modules)\n"
            "assert not heavy, heavy\n")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
