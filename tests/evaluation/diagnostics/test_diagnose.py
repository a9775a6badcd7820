"""The command over finished runs: what it writes, and what it refuses to build."""

import json
import random

import pandas
import pytest
import torch

from kdrun.analysis.run_index import collect
from kdrun.cli import main
from kdrun.evaluation.diagnostics.stored import Missing, NetworkLoader, populations
from tests.toy import toy_experiment


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Two seeds of kd, one of an online scheme."""
    folder = tmp_path_factory.mktemp("outputs")
    for seed in (1, 2):
        toy_experiment("kd", folder, f"seed={seed}", "recipe.epochs=6")
    toy_experiment("kd", folder, "recipe.epochs=6", scheme="online")
    return folder


def diagnose(outputs, *words: str) -> int:
    return main.main(["diagnose", *words, "--outputs", str(outputs), "--threads", "1"])


def test_every_diagnosis_writes_its_tables(outputs, tmp_path, capsys):
    assert diagnose(outputs, "--to", str(tmp_path), "--pictures", "40", "--corruptions", "contrast,shot_noise", "--steps", "2",
                    "--walks", "4", "--walk-steps", "2", "--probed", "4", "--noises", "2", "--noise-steps", "2") == 0
    told = capsys.readouterr()
    assert "at least 3 are wanted" in told.out
    assert "left out" not in told.err
    found = {path.stem: pandas.read_csv(path) for path in tmp_path.glob("*.csv")}
    assert found.keys() == {"class_impact", "exemplars", "exemplars_summary", "mismatches", "calibration", "corruptions",
                            "attacks", "robustness", "capacity", "concepts", "boundary"}
    assert len(found["class_impact"]) == 2 * 10  # two variants, ten classes
    assert len(found["calibration"]) == 3 * 3
    assert found["calibration"]["temperature"].notna().all()
    met = found["mismatches"]
    assert len(met) == 3 * 2  # the student and its baseline, of each run
    assert (met["mismatches"] == met["lost"] + met["won"] + met["both_wrong"]).all()
    agreed = [pandas.read_csv(outputs / "runs" / run / "results.csv").set_index("role").loc[role, "agreement"]
              for run, role in zip(met["run"], met["role"], strict=True) if role == "student"]
    assert (1 - met[met["role"] == "student"]["mismatch_share"]).tolist() == pytest.approx(agreed, abs=1e-6)
    assert len(found["corruptions"]) == 3 * 3 * (1 + 2 * 5)
    assert len(found["attacks"]) == 3 * 3 * 2 * 2
    clean = found["robustness"].set_index(["run", "role"])["clean_accuracy"]
    left = found["attacks"].set_index(["run", "role"])["accuracy"]
    assert (left <= clean.reindex(left.index)).all()
    teachers = found["robustness"][found["robustness"]["role"] == "teacher"]
    assert teachers["mce"].tolist() == pytest.approx([1] * 3)
    assert len(found["boundary"]) == 3
    concepts = found["concepts"]
    assert len(concepts) == 3 * 3
    assert (concepts["foreground_concepts"] <= concepts["foreground_cells"]).all()
    assert (concepts["foreground_concepts"] + concepts["background_concepts"] > 0).all()
    followed = found["capacity"].set_index("run")  # of the two that learn from a trained teacher
    for run in followed.index:
        student = pandas.read_csv(outputs / "runs" / run / "results.csv").set_index("role").loc["student"]
        assert followed.loc[run, "kl_test"] == pytest.approx(student["kl"], abs=1e-6)
    assert len(followed) == 2


def test_a_student_is_compared_with_the_stopped_teacher_that_taught_it(tmp_path):
    toy_experiment("es_kd", tmp_path, "method.teacher_share=0.5", "method.soft_share=0.5")
    assert diagnose(tmp_path, "capacity", "--to", str(tmp_path)) == 0
    (row,) = pandas.read_csv(tmp_path / "capacity.csv").to_dict("records")
    written = pandas.read_csv(tmp_path / "runs" / row["run"] / "results.csv").set_index("role")["accuracy"]
    assert (row["teacher_share"], row["soft_share"]) == (0.5, 0.5)
    assert row["taught_by_accuracy"] == pytest.approx(written["stopped teacher"])
    assert row["teacher_accuracy"] == pytest.approx(written["teacher"])
    assert row["gap_points"] == pytest.approx(100 * (written["student"] - written["baseline"]))
    assert min(row["kl_train"], row["kl_test"]) > 0


def test_the_parts_of_distillation_are_measured_beside_the_whole(tmp_path, capsys):
    for part, seed in (("smoothing", 1), ("full", 1), ("full", 2)):
        toy_experiment("kd_parts", tmp_path, f"method.part={part}", f"seed={seed}")
    assert diagnose(tmp_path, "parts", "--to", str(tmp_path)) == 0
    assert "What each part brings" in capsys.readouterr().out
    parts = pandas.read_csv(tmp_path / "parts.csv").set_index(["part", "seed"])
    whole, part = parts.loc[("full", 1), "gap_points"], parts.loc[("smoothing", 1), "gap_points"]
    share = parts.loc[("smoothing", 1), "share_of_full"]  # of the seed that both have
    assert share == pytest.approx(part / whole) if whole > 0 else pandas.isna(share)
    ratios = pandas.read_csv(tmp_path / "gradient_ratios.csv").set_index(["seed", "samples"])
    assert set(ratios.index.get_level_values("seed")) == {1, 2}
    count = ratios.loc[1, "count"]
    assert count["student right"] + count["student wrong"] == count["all"]
    assert (ratios["q5"] <= ratios["q50"]).all()


def test_calibration_repeats_what_the_run_wrote(outputs, tmp_path):
    assert diagnose(outputs, "calibration", "--to", str(tmp_path), "--where", "seed == 2") == 0
    found = pandas.read_csv(tmp_path / "calibration.csv").set_index("role")
    (run,) = found["run"].unique()
    written = pandas.read_csv(outputs / "runs" / run / "results.csv").set_index("role")
    for column in ("accuracy", "nll", "ece"):
        assert found[column].tolist() == pytest.approx(written.loc[found.index, column].tolist(), rel=1e-5)
    assert (found["nll_after"] > 0).all()


def test_a_network_that_is_not_there_any_more_is_left_out(outputs, tmp_path, capsys):
    (run,) = (path for path in (outputs / "runs").glob("*kd*s2*") if "online" not in path.name)
    weights = run / "student.safetensors"
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[: len(kept) // 2])
        assert diagnose(outputs, "calibration", "--to", str(tmp_path)) == 0
    finally:
        weights.write_bytes(kept)
    assert f"left out: student of {run.name}" in capsys.readouterr().err
    assert len(pandas.read_csv(tmp_path / "calibration.csv")) == 3 * 3 - 1


def test_runs_of_another_task_are_left_out(outputs):
    found, said = collect(outputs), []
    name = str(found.students["run"].iloc[0])
    told = found.runs[name]
    found.runs[name] = told | {"rows": [row | {"task": "tagging"} for row in told["rows"]]}
    assert name not in {run.name for run in populations(found, False, said.append)}
    assert said == [f"left out: {name}: it is of tagging, and diagnoses are of networks that classify samples"]


def test_what_is_done_to_pictures_leaves_other_samples_out(outputs, monkeypatch):
    run, said = populations(collect(outputs), False, pytest.fail)[0], []
    loader = NetworkLoader(outputs, torch.device("cpu"), said.append)
    monkeypatch.setitem(vars(loader.data(run).task), "inputs", "tokens")
    assert not list(loader.networks([run], ("teacher", "student"), pictures=True))
    assert said == [f"left out: {run.name}: its samples are tokens, and this is done to pictures"]


def test_one_bit_of_any_weights_is_noticed(outputs):
    """A student's file, by run.json; a teacher's in the store, and its description, by entry.json."""
    (run,) = (run for run in populations(collect(outputs), False, pytest.fail) if run.seed == 2)
    entry = outputs / "store" / run.entries["teacher"]
    draws = random.Random(1)

    def network(role):
        return NetworkLoader(outputs, torch.device("cpu"), pytest.fail).network(run, role)

    for role, file, count in (("student", run.folder / "student.safetensors", 20),
                              ("teacher", entry / "weights.safetensors", 20), ("teacher", entry / "entry.json", 3)):
        assert network(role).role is not None
        kept = file.read_bytes()
        try:
            for _ in range(count):
                content = bytearray(kept)
                content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
                file.write_bytes(content)
                with pytest.raises(Missing):
                    network(role)
        finally:
            file.write_bytes(kept)


def test_code_from_elsewhere_is_not_run_unless_it_is_trusted(outputs, tmp_path, capsys):
    place = tmp_path / "theirs"
    (run,) = (path for path in (outputs / "runs").glob("*kd*s1*") if "online" not in path.name)
    copy = place / "runs" / run.name
    copy.mkdir(parents=True)
    for path in run.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    told = json.loads((copy / "run.json").read_text())
    told["settings"]["student"]["_target_"] = "os.system"
    (copy / "run.json").write_text(json.dumps(told))
    assert diagnose(place, "calibration") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"kdrun: {run.name}: its settings name os.system, which no config here does")
    assert err.count("\n") == 1
    assert not (place / "diagnostics").exists()


@pytest.mark.parametrize(("words", "told"), [
    (["impcat"], "cannot diagnose 'impcat'; did you mean 'impact'?"),
    (["--corruptions", "blurr"], "--corruptions: unknown corruption 'blurr'"),
    (["--eps", "0"], "kdrun diagnose: argument --eps: got '0', wanted a number above 0, like 0.5 or 8/255"),
    (["--pictures", "-1"], "kdrun diagnose: argument --pictures: got '-1', wanted a whole number of at least 0"),
    (["--where", "nosuch == 1"], "--where: there is no column 'nosuch'"),
    (["--where", "seed == 99"], "there is no finished run"),
    (["--device", "gpu"], "--device"),
])
def test_bad_arguments_are_one_line(outputs, capsys, words, told):
    assert diagnose(outputs, *words) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
