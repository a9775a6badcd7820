"""Collecting runs: what is read, what is left out and told of, and that nothing a folder names is ever run."""

import csv
import json
import os
import sys

import pandas
import pytest

from kdrun.analysis import reading
from kdrun.analysis.run_index import ADDED, collect
from kdrun.cli import main
from kdrun.config.schema import ConfigError
from tests.analysis.runs import write_run
from tests.toy import settings_of


def broken(folder, change):
    """Change what a run's run.json says."""
    told = json.loads((folder / "run.json").read_text())
    change(told)
    (folder / "run.json").write_text(json.dumps(told))


def test_every_network_is_a_row(tmp_path):
    write_run(tmp_path, "kd", 1, 0.9, taught=0.95, alone=0.88)
    found = collect(tmp_path)
    assert found.skipped == []
    assert found.results["role"].tolist() == ["teacher", "baseline", "student"]
    assert found.results["accuracy"].tolist() == [0.95, 0.88, 0.9]
    assert set(ADDED) <= set(found.results.columns)
    (student,) = found.students.to_dict("records")
    assert (student["teacher"], student["student"], student["recipe_epochs"]) == ("big", "small", 40)
    assert (student["teacher_headline"], student["baseline_headline"], student["teacher_parameters"]) == (0.95, 0.88, 400)
    assert (student["variant"], student["measured_by"]) == ("kd", "you")
    assert found.runs[student["run"]]["status"] == "finished"


def test_nothing_there_is_no_rows(tmp_path):
    found = collect(tmp_path)
    assert len(found.results) == 0
    assert len(found.students) == 0
    assert found.history.empty


def test_a_run_without_a_teacher(tmp_path):
    write_run(tmp_path, "dml", taught=None, under="online", peers=("other",))
    (student,) = collect(tmp_path).students.to_dict("records")
    assert student["peers"] == "other"
    assert pandas.isna([student["teacher"], student["teacher_headline"], student["teacher_parameters"]]).all()


def test_long_tables_are_of_the_rows_that_are_left(tmp_path):
    write_run(tmp_path, "kd", 1)
    write_run(tmp_path, "kd", 2)
    assert len(collect(tmp_path).history) == 2
    assert len(collect(tmp_path, "seed == 2").per_class) == 1


@pytest.mark.parametrize(("damage", "told"), [
    (lambda folder: (folder / "run.json").unlink(), "unfinished (no run.json yet)"),
    (lambda folder: ((folder / "run.json").unlink(), (folder / "traceback.txt").write_text("x")), "failed"),
    (lambda folder: (folder / "run.json").write_text('{"status": "fin'), "run.json is damaged"),
    (lambda folder: (folder / "run.json").write_bytes(b"\xff\xfe\x00"), "run.json is damaged"),
    (lambda folder: (folder / "run.json").write_text("[]"), "does not say that it is finished"),
    (lambda folder: broken(folder, lambda told: told.update(status="running")), "does not say that it is finished"),
    (lambda folder: (folder / "results.csv").unlink(), "results.csv is missing or damaged"),
    (lambda folder: (folder / "results.csv").write_text(""), "no rows"),
    (lambda folder: (folder / "results.csv").write_text("a,b\n1,2\n"), "no column run"),
    (lambda folder: (folder / "results.csv").write_text((folder / "results.csv").read_text()[:-40]), "results.csv is damaged"),
    (lambda folder: (folder / "results.csv").write_text((folder / "results.csv").read_text().replace("0.9,", "0.91,")),
     "disagree on headline_value of the student"),
    (lambda folder: (folder / "results.csv").write_text((folder / "results.csv").read_text().replace("0.9,", "high,")),
     "headline_value is no number"),
    (lambda folder: broken(folder, lambda told: told["rows"].pop()), "disagree: 2 and 3 rows"),
    (lambda folder: broken(folder, lambda told: told.pop("settings")), "lacks settings"),
    (lambda folder: broken(folder, lambda told: told["settings"]["recipe"].pop("epochs")), "lacks settings"),
    (lambda folder: folder.rename(folder.with_name("copy")), "a copy, or renamed"),
])
def test_a_damaged_run_is_told_of_and_left_out(tmp_path, damage, told):
    write_run(tmp_path, "kd", 1)
    folder = write_run(tmp_path, "kd", 2)
    damage(folder)
    found = collect(tmp_path)
    assert found.students["seed"].tolist() == [1]
    (line,) = found.skipped
    assert told in line
    assert str(tmp_path / "runs") in line
    assert len(line.splitlines()) == 1


def test_a_damaged_history_costs_its_own_run_only(tmp_path):
    write_run(tmp_path, "kd", 1)
    (write_run(tmp_path, "kd", 2) / "history.csv").write_text("run,role\nx,y\n")
    found = collect(tmp_path)
    assert len(found.students) == 2
    assert len(found.history) == 1
    assert "history.csv is damaged" in found.skipped[0]


def test_nothing_that_a_run_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = write_run(tmp_path, "kd", 1)
    broken(folder, lambda told: [told["settings"][key].update(_target_="evil.Evil")
                                 for key in ("dataset", "teacher", "student", "scheme", "method")])
    found = collect(tmp_path)
    assert len(found.students) == 1
    assert "evil" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_a_run_done_again_counts_once(tmp_path):
    write_run(tmp_path, "kd", 1, 0.90, name="first", finished="2026-01-01T00:00:00+0000")
    write_run(tmp_path, "kd", 1, 0.91, name="again", finished="2026-02-01T00:00:00+0000")
    found = collect(tmp_path)
    assert len(found.results) == 6
    assert found.students["accuracy"].tolist() == [0.91]


def test_what_is_compared(tmp_path):
    write_run(tmp_path, "kd", 1)
    same = [write_run(tmp_path, "kd", 2), write_run(tmp_path, "at", 1),
            write_run(tmp_path, "kd", 1, method={"temperature": 8.0}, name="t8"),
            write_run(tmp_path, "kd", 1, recipe={"name": "called_otherwise"}, name="named")]
    other = [write_run(tmp_path, "kd", 1, dataset={"train_limit": 100}), write_run(tmp_path, "kd", 1, recipe={"lr": 0.1}),
             write_run(tmp_path, "kd", 1, precision="bf16"),
             write_run(tmp_path, "kd", 1, student={"name": "small", "width": 3}),
             write_run(tmp_path, "kd", 1, teachers=["big", "big"])]
    table = collect(tmp_path).results.drop_duplicates("run").set_index("run")["comparison"]
    digest = {run: label.rpartition("#")[2] for run, label in table.items()}
    (first,) = {digest[run] for run in digest if run not in {folder.name for folder in (*same, *other)}}
    assert {digest[folder.name] for folder in same} == {first}
    assert len({digest[folder.name] for folder in other} | {first}) == len(other) + 1
    assert table[other[0].name].startswith("digits (100 pictures), big → small, digits recipe, 40 epochs, #")


def test_runs_whose_teachers_were_trained_otherwise_are_not_compared(tmp_path):
    for seed, recipe in enumerate((None, {"epochs": 40}, {"epochs": 100})):
        folder = write_run(tmp_path, "kd", seed)
        broken(folder, lambda told, recipe=recipe: told["settings"]["teacher"].update(recipe=recipe))
    plain, same, longer = collect(tmp_path).students.sort_values("seed")["comparison"]
    assert plain == same != longer
    assert ", teacher by digits (epochs=100), #" in longer


def test_runs_of_other_threads_are_not_compared(tmp_path):
    """Of a run on the CPU the threads count, which older versions wrote down beside settings of `null`; never on a GPU."""
    def labels(**runs):
        for name, (settings, threads, device) in runs.items():
            folder = write_run(tmp_path, "kd", name=name, threads=settings)
            told = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps(told | {"threads": threads, "device": device}))
        table = collect(tmp_path).results.drop_duplicates("run").set_index("run")["comparison"]
        return [table[name] for name in runs]

    one, two, older = labels(one=(1, 1, "cpu"), two=(2, 2, "cpu"), older=(None, 2, "cpu"))
    assert two == older
    assert one.rpartition("#")[2] != two.rpartition("#")[2]
    assert ", 2 threads, #" in two
    assert "thread" not in one
    gpu = labels(gpu=(1, 1, "cuda:0"), fed=(8, 8, "cuda:0"))
    assert gpu[0] == gpu[1]
    assert "thread" not in gpu[0]


def test_where_a_named_data_set_lies_does_not_matter(tmp_path):
    for seed, root in ((1, "/a"), (2, "/b")):
        write_run(tmp_path, "kd", seed, dataset={"reader": "CIFAR10", "root": root, "download": seed == 1})
    assert collect(tmp_path).students["comparison"].nunique() == 1


def also(folder, **told):
    """Add to what a run.json says."""
    file = folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | told))


def test_pictures_and_weights_of_ones_own_are_known_by_what_they_hold(tmp_path):
    """By their digests, as a run writes them down; older versions did not, and their runs are known by the paths."""
    for place, changes, told in (
            ("pictures", lambda path: {"dataset": {"root": path}}, lambda digest: {"data": digest}),
            ("table", lambda path: {"dataset": {"train": path}}, lambda digest: {"data": digest}),
            ("weights", lambda path: {"teacher": {"checkpoint": path}}, lambda digest: {"checkpoints": {"teacher": digest}}),
            ("start", lambda path: {"student": {"checkpoint": path}}, lambda digest: {"starts": {"student": digest}})):
        for seed, path, digest in ((1, "/a", "abc"), (2, "/b", "abc"), (3, "/a", "xyz")):
            also(write_run(tmp_path / place, "kd", seed, **changes(path)), **told(digest))
        first, moved, other = collect(tmp_path / place).students["comparison"]
        assert first == moved
        assert first.rpartition("#")[2] != other.rpartition("#")[2]
        key = {"pictures": "dataset.root", "table": "dataset.train", "weights": "teacher.checkpoint",
               "start": "student.checkpoint"}[place]
        assert f"{key}=/a (abc), #" in first
        for seed, path in ((1, "/a"), (2, "/b")):
            write_run(tmp_path / f"older {place}", "kd", seed, **changes(path))
        assert collect(tmp_path / f"older {place}").students["comparison"].nunique() == 2


def test_what_changes_no_result_splits_nothing(tmp_path):
    for seed, value in ((1, False), (2, True), (3, "half")):
        write_run(tmp_path, "kd", seed, teacher={"remember": value, "remember_gb": 10 * seed})
    off, exact, rounded = collect(tmp_path).students["comparison"]
    assert off == exact != rounded


def test_a_heading_names_what_was_set_otherwise(tmp_path):
    usual = settings_of()
    groups = {name: usual.values[name] for name in ("dataset", "teacher", "student", "recipe")}
    shipped = {"choices": usual.choices | {"method": "kd", "scheme": "offline"}}
    for seed, changes in enumerate(({}, {"recipe": {"lr": 0.5}}, {"student": {"widths": [4, 8, 8], "depth": 14}},
                                    {"dataset": {"crop": 3}, "teacher": {"width": 4}})):
        own = {name: values | changes.get(name, {}) for name, values in groups.items()}
        also(write_run(tmp_path, "kd", seed, **own), **shipped)
    table = collect(tmp_path).students.set_index("seed")["comparison"]
    assert [table[seed].rpartition(", #")[0].removeprefix("digits, wrn_16_2 → resnet8, digits recipe, 40 epochs")
            for seed in range(4)] == ["", ", recipe.lr=0.5", ", student.depth=14, student.widths=[4,8,8]",
                                      ", dataset.crop=3, teacher.width=4"]


def test_the_settings_of_a_choice_that_is_not_known_here_are_all_named(tmp_path):
    write_run(tmp_path, "kd", student={"name": "mine", "depth": 3})
    (label,) = collect(tmp_path).students["comparison"]
    assert "big → mine, digits recipe, 40 epochs, " in label
    assert "student.depth=3, #" in label


def test_teachers_of_some_classes_are_told_and_nobody_is_compared_with_them(tmp_path):
    write_run(tmp_path, "uhc", 1)
    write_run(tmp_path, "uhc", 2, teacher_classes=[[0, 1], [1, 2]])
    plain, parted = collect(tmp_path).students.sort_values("seed").to_dict("records")
    assert plain["comparison"] != parted["comparison"]
    assert "teacher_classes=[[0,1],[1,2]]" in parted["comparison"]
    assert plain["teacher_headline"] == 0.95
    assert pandas.isna(parted["teacher_headline"])


@pytest.mark.parametrize(("method", "changes", "label"), [
    ("kd", {}, "kd"),
    ("kd", {"method": {"temperature": 8.0}}, "kd (temperature=8.0)"),
    ("at", {"under": "self"}, "at (self)"),
    ("fitnets", {"method": {"hint_epochs": 5}}, "fitnets"),  # ${recipe.init_epochs}, which is 5
    ("fitnets", {"method": {"hint_epochs": 6}}, "fitnets (hint_epochs=6)"),
])
def test_variants_of_a_method(tmp_path, method, changes, label):
    write_run(tmp_path, method, **changes)
    assert collect(tmp_path).students["variant"].tolist() == [label]


def test_a_setting_that_an_older_version_lacked(tmp_path):
    folder = write_run(tmp_path, "kd")
    broken(folder, lambda told: told["settings"]["method"].pop("form"))
    assert collect(tmp_path).students["variant"].tolist() == ["kd (without form)"]


def test_methods_of_ones_own_are_told_apart_by_their_settings(tmp_path):
    for name, weight in (("a", 1), ("b", 2)):
        folder = write_run(tmp_path, "kd", name=name, method={"weight": weight})
        broken(folder, lambda told: told["choices"].update(method="mine"))
    assert collect(tmp_path).students["variant"].nunique() == 2


@pytest.mark.parametrize(("where", "seeds"), [
    ("seed == 2", [2]),
    ("seed in [1, 3]", [1, 3]),
    ("seed in (1,)", [1]),
    ('method == "kd" and not seed == 1', [2, 3]),
    ("(seed == 1) | (accuracy > 0.92)", [1, 3]),
    ("accuracy - baseline_headline > 0.035", [2, 3]),
    ('teacher == "big" and seed < 1 + 1', [1]),
    ('dataset == "cifar100"', []),
])
def test_where(tmp_path, where, seeds):
    for seed in (1, 2, 3):
        write_run(tmp_path, "kd", seed, 0.9 + seed / 100)
    assert collect(tmp_path, where).students["seed"].tolist() == seeds


@pytest.mark.parametrize(("where", "told"), [
    ('methd == "kd"', "there is no column 'methd'; did you mean 'method'?"),
    ("colour == 1", "there is no column 'colour'; there is run, seed,"),
    ("seed ==", "cannot read 'seed =='"),
    ("", "cannot read ''"),
    ("seed = 1", "cannot read"),
    ('__import__("os").system("true")', "is not allowed"),
    ("seed.map(print)", "is not allowed"),
    ("@collect", "cannot read"),
    ("[x for x in (1,)]", "is not allowed"),
    ("seed ** 99999", "is not allowed"),
    ("(lambda: 1)() == seed", "is not allowed"),
    ("method > 3", "cannot apply"),
    ("accuracy", "it is no condition"),
])
def test_a_condition_that_cannot_be(tmp_path, where, told):
    write_run(tmp_path, "kd")
    with pytest.raises(ConfigError) as refused:
        collect(tmp_path, where)
    (line,) = refused.value.problems
    assert line.startswith("--where: ")
    assert told in line


def test_what_ships_is_added_with_who_measured_it(tmp_path, monkeypatch):
    from kdrun.analysis import run_index

    write_run(tmp_path / "theirs", "kd", 1, 0.93)
    folder = tmp_path / "measured" / "sweep"
    folder.mkdir(parents=True)
    collect(tmp_path / "theirs").results.to_csv(folder / "results.csv", index=False)
    (folder / "machine.json").write_text('{"machine": "two cores"}')
    monkeypatch.setattr(run_index, "PACKAGED", tmp_path / "measured")
    write_run(tmp_path / "mine", "kd", 1, 0.91)
    assert len(collect(tmp_path / "mine").students) == 1
    both = collect(tmp_path / "mine", packaged=True).students
    assert both["measured_by"].tolist() == ["you", "kdrun on two cores"]
    assert both["accuracy"].tolist() == [0.91, 0.93]
    assert both["comparison"].nunique() == 1


def says(folder, column, text):
    """Let a run's student have this in a column: in results.csv, and in run.json too."""
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[-1][column] = text
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    try:
        value = float(text)
    except ValueError:
        value = text
    broken(folder, lambda told: told["rows"][-1].update({column: value}))


ODD = [("accuracy", "inf"), ("accuracy", "nan"), ("accuracy", "7"), ("accuracy", "1e308"), ("accuracy", "-0.1"),
       ("headline_value", ""), ("headline_value", "7"), ("headline", ""), ("seed", "-1"), ("seed", "1.5"), ("seed", "1" * 400),
       ("parameters", "9" * 400), ("parameters", "-4"),
       ("bits", "inf"), ("epochs", "1e30"), ("role", " "), ("role", ""), ("role", "stu\x1bdent"), ("model", ""), ("nll", "-3"),
       ("ece", "2"), ("kl", "inf"), ("kl", "high"), ("correlation", "-2"), ("relative_error", "1e300"),
       ("distillation_score", "nan")]


@pytest.mark.parametrize(("column", "text"), ODD)
def test_what_nothing_measures_costs_its_own_run_only(tmp_path, column, text):
    write_run(tmp_path, "kd", 1)
    says(write_run(tmp_path, "kd", 2), column, text)
    found = collect(tmp_path)
    assert found.students["seed"].tolist() == [1]
    (line,) = found.skipped
    assert f"results.csv is damaged ({column} is " in line
    assert line.isprintable()


def test_no_command_fails_for_an_odd_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "outputs", "kd", 1)
    for seed, (column, text) in enumerate(ODD, start=2):
        says(write_run(tmp_path / "outputs", "kd", seed), column, text)
    for words in (["results"], ["tables", "league", "--own"], ["plot", "alpha", "--format", "svg"]):
        assert main.main(words) == 0
        assert capsys.readouterr().err.count("results.csv is damaged") == len(ODD)


@pytest.mark.parametrize(("name", "line", "told"), [
    ("history.csv", "student,distill,0,validation,accuracy,inf", "value is inf"),
    ("history.csv", "student,distill,-1,validation,accuracy,0.5", "epoch is -1"),
    ("history.csv", "student,distill,0,validation,accuracy,high", "could not convert"),
    ("history.csv", "student,dis\x1btill,0,validation,accuracy,1", "phase is no text"),
    ("per_class.csv", "student,small,a,10,7,0.5", "recall is 7"),
    ("per_class.csv", "student,small,a,1.5,0.5,0.5", "samples is no whole number"),
])
def test_what_nothing_measures_in_a_long_table(tmp_path, name, line, told):
    write_run(tmp_path, "kd", 1)
    folder = write_run(tmp_path, "kd", 2)
    with (folder / name).open("a") as file:
        file.write(f"{folder.name},{line}\n")
    found = collect(tmp_path)
    assert len(found.history if name == "history.csv" else found.per_class) == 1
    assert told in found.skipped[0]


def test_a_class_called_na_is_a_class(tmp_path):
    folder = write_run(tmp_path, "kd", 1)
    with (folder / "per_class.csv").open("a") as file:
        file.write(f"{folder.name},student,small,NA,10,,\n")
    found = collect(tmp_path)
    assert found.per_class["class"].tolist() == ["0", "NA"]
    assert found.per_class["recall"].isna().tolist() == [False, True]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    for seed, name in enumerate(("run.json", "results.csv"), start=2):
        folder = write_run(tmp_path, "kd", seed)
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert ["no regular file" in line for line in collect(tmp_path).skipped] == [True, True]


def test_every_number_of_a_run_has_a_range():
    from kdrun.evaluation import result_tables

    columns = {*result_tables.COLUMNS, *result_tables.HISTORY_COLUMNS, *result_tables.PER_CLASS_COLUMNS,
               *result_tables.CALIBRATION_COLUMNS, *ADDED}
    texts = {*reading.TEXTS, *reading.ADDED_TEXTS, "phase", "split", "metric", "class"}
    assert columns - texts == set(reading.RANGES)
    assert set(result_tables.WHOLE) <= set(reading.WHOLE)


def test_a_run_of_an_older_version_is_a_classifier_by_its_accuracy(tmp_path):
    folder = write_run(tmp_path, accuracy=0.9, taught=0.95, alone=0.88)
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [column for column in rows[0] if column not in ("task", "headline", "headline_value")]
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (student,) = collect(tmp_path).students.to_dict("records")
    assert (student["task"], student["headline"], student["headline_value"]) == ("classification", "accuracy", 0.9)
    assert (student["teacher_headline"], student["baseline_headline"]) == (0.95, 0.88)
