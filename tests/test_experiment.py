"""A run from its settings to its files."""

import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file

from kdrun import experiment
from kdrun.analysis.run_index import collect
from kdrun.config.identity import identity, run_folder
from kdrun.config.schema import ConfigError
from kdrun.evaluation import result_tables
from kdrun.models.factory import NetworkSpec, load_checkpoint
from kdrun.storage.finished import finished
from kdrun.storage.network_store import save_weights
from kdrun.tasks.classification import Classification
from kdrun.utils.files import digest_of
from kdrun.utils.progress import Progress
from tests.conftest import TINY_STUDENT, tiny_data, tiny_networks
from tests.toy import TINY, prepared, rows_of, settings_of, state, toy_settings


class Notes(Progress):
    """A screen that remembers."""

    def __init__(self):
        super().__init__(None)
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    def warn(self, text):
        self.lines.append(f"warning: {text}")

    def phase(self, title, *told):
        self.lines.append(f"begins: {title}")
        return super().phase(title, *told)


def go(key, folder, *more):
    notes = Notes()
    settings = toy_settings(key, f"outputs={folder}", *more)
    return settings, experiment.run(settings, notes), notes.lines


def test_files_and_columns(tmp_path):
    settings, rows, _ = go("kd", tmp_path)
    folder = run_folder(settings)
    table = pandas.read_csv(folder / "results.csv")
    assert tuple(table.columns) == result_tables.COLUMNS
    assert table["role"].tolist() == ["teacher", "baseline", "student"]
    student = table.iloc[2]
    teacher = table.iloc[0]
    assert student["distillation_factor"] == pytest.approx(teacher["parameters"] / student["parameters"])
    assert student["relative_error"] == pytest.approx((1 - student["accuracy"]) / (1 - teacher["accuracy"]))
    assert student["distillation_score"] == pytest.approx(
        0.5 * student["parameters"] / teacher["parameters"] + 0.5 * (1 - student["accuracy"] / teacher["accuracy"]))
    assert student["bits"] == 8 * student["bytes"] == 32 * student["parameters"]
    assert teacher[["distillation_score", "improvement_pct", "kl"]].isna().all()
    history = pandas.read_csv(folder / "history.csv")
    assert set(history["role"]) == {"teacher", "baseline", "student"}
    assert {"ce", "kd"} <= set(history[history["role"] == "student"]["metric"])
    per_class = pandas.read_csv(folder / "per_class.csv")
    assert len(per_class) == 3 * 10
    assert (per_class[per_class["role"] == "student"]["recall"] * per_class[per_class["role"] == "student"]["samples"]).sum() \
        == pytest.approx(student["accuracy"] * per_class[per_class["role"] == "student"]["samples"].sum())
    bins = pandas.read_csv(folder / "calibration.csv")
    assert tuple(bins.columns) == result_tables.CALIBRATION_COLUMNS
    assert bins.groupby("role")["samples"].sum().to_dict() == per_class.groupby("role")["samples"].sum().to_dict()
    for _, row in table.iterrows():
        own = bins[bins["role"] == row["role"]]
        assert (own["samples"] * (own["confidence"] - own["accuracy"]).abs()).sum() / own["samples"].sum() \
            == pytest.approx(row["ece"])
    told = json.loads((folder / "run.json").read_text())
    assert told["rows"] == rows
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert not (folder / "checkpoints").exists()


def test_the_second_run_takes_teacher_and_baseline_from_the_store(tmp_path):
    _, first, notes = go("kd", tmp_path)
    assert any(line.startswith("teacher cnn: trained") for line in notes)
    _, second, notes = go("at", tmp_path)
    assert any(line.startswith("teacher cnn: from store") for line in notes)
    assert any(line.startswith("baseline cnn: from store") for line in notes)
    for role in ("teacher", "baseline"):
        assert rows_of(first)[role]["nll"] == rows_of(second)[role]["nll"]


def test_a_finished_run_is_not_done_again_unless_asked(tmp_path, monkeypatch):
    _, rows, _ = go("kd", tmp_path)
    monkeypatch.setattr(experiment.Experiment, "prepare", lambda *_: pytest.fail("prepared again"))
    _, again, notes = go("kd", tmp_path)
    assert again == rows
    assert "finished before" in notes[0]
    monkeypatch.undo()
    _, forced, notes = go("kd", tmp_path, "rerun=true")
    assert rows_of(forced)["student"]["nll"] == rows_of(rows)["student"]["nll"]
    assert any(line.startswith("teacher cnn: from store") for line in notes)


def flip(path, bit):
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    place = bit % (8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def test_lost_and_damaged_files_of_a_finished_run_are_made_again(tmp_path, monkeypatch):
    settings, rows, _ = go("kd", tmp_path)
    folder = run_folder(settings)
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with monkeypatch.context() as patch:  # what follows from run.json and history.csv needs no training
        patch.setattr(experiment.Experiment, "prepare", lambda *_: pytest.fail("prepared again"))
        for damage in (Path.unlink, lambda path: path.write_bytes(b""), lambda path: flip(path, 12345)):
            damage(folder / "results.csv")
            (folder / "curves.png").unlink()
            _, again, notes = go("kd", tmp_path)
            assert again == rows
            assert notes[0] == f"{folder}: results.csv and curves.png were lost or damaged, and made again"
            assert {name: (folder / name).read_bytes() for name in ("results.csv", "curves.png")}.items() <= kept.items()
    for name in ("history.csv", "per_class.csv", "calibration.csv", "student.safetensors"):
        for damage in (Path.unlink, lambda path: path.write_bytes(b""), lambda path: flip(path, 4321)):
            notes = []
            damage(folder / name)
            assert finished(folder, notes.append) is None
            assert notes == [f"{folder}: {name} was lost or damaged; the run is done again"]
            (folder / name).write_bytes(kept[name])
            assert finished(folder, notes.append) == rows
    flip(folder / "student.safetensors", 999)
    (folder / "history.csv").write_bytes(b"")
    _, _, notes = go("kd", tmp_path)
    assert notes[0] == f"{folder}: history.csv and student.safetensors were lost or damaged; the run is done again"
    assert {name: (folder / name).read_bytes() for name in ("history.csv", "student.safetensors", "per_class.csv")}.items() \
        <= kept.items()
    assert go("kd", tmp_path)[2][0].startswith("finished before")


def test_a_run_of_an_older_version_has_to_have_its_files(tmp_path):
    settings, rows, _ = go("kd", tmp_path)
    folder = run_folder(settings)
    told = json.loads((folder / "run.json").read_text())
    for name in ("files", "curves", "checkpoints"):  # which they did not write
        del told[name]
    (folder / "run.json").write_text(json.dumps(told))
    assert finished(folder, pytest.fail) == rows
    for name in ("history.csv", "student.safetensors"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(b"")
        assert finished(folder, lambda _: None) is None
        (folder / name).write_bytes(kept)


@pytest.mark.parametrize("text", ["", "[]", '{"status": "finished"}', '{"status": "finished", "rows": [3]}', "[" * 100_000])
def test_a_record_that_is_none_is_no_finished_run(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert finished(tmp_path, pytest.fail) is None


def test_a_rerun_killed_before_its_record_leaves_the_run_in_the_tables(tmp_path, monkeypatch):
    settings, rows, _ = go("kd", tmp_path)
    folder = run_folder(settings)
    written = (folder / "results.csv").read_bytes()
    with monkeypatch.context() as patch:

        def killed(_):
            raise SystemExit

        patch.setattr(experiment, "identity", killed)  # the last that is asked for before run.json is written
        with pytest.raises(SystemExit):
            go("kd", tmp_path, "rerun=true")
    assert (folder / "results.csv").read_bytes() != written  # other seconds
    assert collect(tmp_path).results.empty
    _, again, notes = go("kd", tmp_path)
    assert again == rows
    assert notes[0] == f"{folder}: results.csv was lost or damaged, and made again"
    assert (folder / "results.csv").read_bytes() == written
    assert len(collect(tmp_path).results) == 3


def test_the_folder_is_named_by_what_matters(tmp_path):
    base = run_folder(toy_settings("kd", f"outputs={tmp_path}"))
    assert base == run_folder(toy_settings("kd", f"outputs={tmp_path}", "rerun=true", "checkpoint_seconds=5"))
    others = {run_folder(toy_settings("kd", f"outputs={tmp_path}", change))
              for change in ("seed=2", "method.temperature=2", "recipe.lr=0.1", "measures.alpha=0.7", "scheme=self")}
    assert len({base, *others}) == 6


def test_the_baseline_is_the_student_alone_to_the_byte(tmp_path):
    settings, rows, _ = go("vanilla", tmp_path)
    student = load_file(run_folder(settings) / "student.safetensors")
    (entry,) = (tmp_path / "store").glob("digits-student-*/weights.safetensors")
    baseline = load_file(entry)
    assert all(torch.equal(student[name], baseline[name]) for name in baseline)
    assert rows_of(rows)["student"]["improvement_pct"] == 0


def test_a_teacher_of_the_users_own(tmp_path):
    toy = prepared(("kd", f"outputs={tmp_path / 'first'}"))
    own = toy.alone(toy.teacher_specs[0], "teacher")
    for name, save in (("own.pt", lambda path: torch.save({"state_dict": {
            f"module.{key}": value for key, value in own.network.state_dict().items()}}, path)),
                       ("own.safetensors", lambda path: save_weights(own.network, path))):
        save(tmp_path / name)
        _, rows, notes = go("kd", tmp_path / "second", f"teacher.checkpoint={tmp_path / name}")
        assert any(f"teacher cnn: from {tmp_path / name}" in line for line in notes)
        assert not list((tmp_path / "second" / "store").glob("digits-teacher-*"))
        assert rows_of(rows)["teacher"]["epochs"] is None
        theirs = toy.teacher_specs[0].build(toy.data)
        load_checkpoint(theirs, tmp_path / name, "cnn")
        assert all(torch.equal(value, own.network.state_dict()[key]) for key, value in theirs.state_dict().items())
    assert len(list((tmp_path / "second" / "runs").iterdir())) == 2  # two files, two runs: named by their bytes


def test_a_teacher_by_a_recipe_of_its_own(tmp_path):
    """Which is in the names of the run and of the stored teacher, and not in the baseline's."""
    settings, _, _ = go("kd", tmp_path)
    longer, rows, notes = go("kd", tmp_path, "teacher.recipe={epochs: 3}")
    assert [rows_of(rows)[role]["epochs"] for role in ("teacher", "baseline", "student")] == [3, 2, 2]
    assert [row["recipe"] for row in rows] == ["smoke (epochs=3)", "smoke", "smoke"]
    assert any(line.startswith("teacher cnn: trained") for line in notes)
    assert any(line.startswith("baseline cnn: from store") for line in notes)
    assert identity(settings) != identity(longer)
    same = toy_settings("kd", f"outputs={tmp_path}", "teacher.recipe={epochs: 2}")
    assert identity(settings) == identity(same)


def test_a_recipe_of_the_teacher_by_name():
    whole = settings_of("recipe=wrn").values["recipe"]
    assert settings_of("teacher.recipe=wrn").values["teacher"]["recipe"] == whole  # with what it has of `standard`


@pytest.mark.parametrize(("scheme", "before"), [("offline", True), ("online", False)])
def test_a_weak_teacher_is_warned_of_as_soon_as_it_is_known(tmp_path, monkeypatch, scheme, before):
    monkeypatch.setattr(result_tables.metrics, "weak_teacher", lambda teacher, baseline: True)
    _, rows, lines = go("kd", tmp_path, f"scheme={scheme}")
    (warned,) = [place for place, line in enumerate(lines) if line.startswith("warning: the teacher cnn (")]
    assert (warned < lines.index("begins: student cnn")) == before  # one that learns along is known at the end
    assert rows_of(rows)["student"]["weak_teacher"] == 1
    assert rows_of(rows)["baseline"]["weak_teacher"] is None


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model._orig_mod.", "net.module."])
def test_weights_are_found_under_the_names_of_wrappers(tmp_path, prefix):
    network = TINY_STUDENT.build(tiny_data())
    torch.save({"state_dict": {prefix + key: value + 1 for key, value in network.state_dict().items()}}, tmp_path / "w.ckpt")
    before = state(network)
    load_checkpoint(network, tmp_path / "w.ckpt", "tiny")
    assert all(torch.equal(value, before[key] + 1) for key, value in network.state_dict().items())


def test_a_student_starts_from_weights_of_the_users_own_in_every_method_and_alone(tmp_path, data):
    start = TINY_STUDENT.build(data)
    save_weights(start, tmp_path / "start.safetensors")
    spec = NetworkSpec.read({**TINY_STUDENT.settings, "name": "tiny", "checkpoint": tmp_path / "start.safetensors"}, "student")
    factory = tiny_networks(data, student=spec)
    begun = [factory.student(), factory.baseline()]
    others = [factory.student(generation=1), *factory.peers(1)]  # which would be the student's twins
    for role, same in [*((role, True) for role in begun), *((role, False) for role in others)]:
        assert all(torch.equal(value, start.state_dict()[key]) for key, value in role.network.state_dict().items()) == same


def test_a_start_is_known_by_what_it_holds_and_the_baseline_has_it_too(tmp_path):
    toy = prepared(("kd",))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(seed)
        save_weights(toy.student.build(toy.data), tmp_path / f"{name}.safetensors")
    same, copy, other = (toy_settings("kd", f"student.checkpoint={tmp_path / name}.safetensors") for name in "abc")
    assert identity(same) == identity(copy) != identity(other)
    _, plain, _ = go("kd", tmp_path)
    settings, rows, notes = go("kd", tmp_path, f"student.checkpoint={tmp_path}/a.safetensors")
    assert notes[0] == f"student cnn: starts from {tmp_path}/a.safetensors"
    assert any(line.startswith("teacher cnn: from store") for line in notes)
    assert any(line.startswith("baseline cnn: trained") for line in notes)
    assert rows_of(rows)["baseline"]["nll"] != rows_of(plain)["baseline"]["nll"]
    told = json.loads((run_folder(settings) / "run.json").read_text())
    assert told["starts"] == {"student": digest_of(tmp_path / "a.safetensors")}


def test_a_head_of_other_classes_is_replaced_and_trained(tmp_path):
    teacher = prepared(("kd",)).teacher_specs[0]
    data = prepared(("kd",)).data
    seven = replace(data, task=Classification(tuple("abcdefg"), data.shape))
    old = teacher.build(seven)
    save_weights(old, tmp_path / "seven.safetensors")
    words = [f"teacher.checkpoint={tmp_path}/seven.safetensors", "teacher.checkpoint_head=new", "teacher.recipe={epochs: 1}"]
    settings, rows, notes = go("kd", tmp_path, *words)
    assert notes[0] == f"teacher cnn: starts from {tmp_path}/seven.safetensors, with a new head"
    assert any(line.startswith("teacher cnn: trained") for line in notes)
    assert rows_of(rows)["teacher"]["epochs"] == 1
    factory = experiment.Experiment.prepare(settings, Progress(None)).factory(rehearsal=True)
    (begun,) = factory.untrained_teachers()
    kept = [key for key, value in old.state_dict().items() if torch.equal(value, begun.network.state_dict()[key])
            and not key.startswith("head.")]
    assert len(kept) == len(old.state_dict()) - 2
    assert begun.network.state_dict()["head.weight"].shape[0] == 10


def test_a_teacher_of_another_family(tmp_path):
    others = [word for word in TINY if not word.startswith("teacher")]
    settings = settings_of(*others, "teacher=mlp", "teacher.widths=[16,16,16]", "method=kd", f"outputs={tmp_path}")
    rows = rows_of(experiment.run(settings, Progress(None)))
    assert rows["teacher"]["model"] == "mlp"
    assert rows["student"]["model"] == "cnn"


def test_what_does_not_fit_is_found_before_anything_is_trained(tmp_path):
    with pytest.raises(ConfigError, match="pairs stages"):
        go("at", tmp_path, "teacher.widths=[4,4]")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.pt"))


def test_several_teachers_come_from_the_store_too(tmp_path):
    toy = prepared(("mt_avg", "teachers=[cnn,mlp]", f"outputs={tmp_path}"))
    made = toy.teachers()
    assert [(one.role, one.model) for one in made] == [("teacher", "cnn"), ("teacher 2", "mlp")]
