"""Which views were learned, of stored networks."""

import pandas
import pytest

from kdrun.cli import main
from kdrun.evaluation.diagnostics.multi_view import summed

SMALL = ["dataset=multiview", "dataset.classes=3", "dataset.patch=3", "dataset.grid=2", "dataset.copies=1", "dataset.train=120",
         "dataset.test=30", "dataset.noise=0.02", "recipe=digits", "recipe.epochs=6", "recipe.batch_size=16", "teacher=cnn",
         "teacher.widths=[8,8]", "student=cnn", "student.widths=[6,6]", "threads=1", "method=kd"]


def test_views_are_counted_above_the_threshold():
    assert summed([[1.0, 0.2], [0.95, 0.91], [0.9, 0.3]]) == {
        "views": 6, "views_learned": 3, "classes_by_all_views": 1, "accuracy_on_single_views": pytest.approx(4.26 / 6)}


def test_a_network_that_learned_all_classes_has_its_views_counted(tmp_path, capsys):
    assert main.main([*SMALL, f"outputs={tmp_path}"]) == 0
    assert main.main(["diagnose", "views", "--outputs", str(tmp_path), "--each", "20", "--threads", "1"]) == 0
    assert "Views learned" in capsys.readouterr().out
    rows = pandas.read_csv(tmp_path / "diagnostics" / "views.csv")
    assert len(rows) == 3 * 3 * 2  # networks, classes, views
    assert (rows["learned"] == (rows["accuracy"] > 0.9)).all()
    summary = pandas.read_csv(tmp_path / "diagnostics" / "views_summary.csv").set_index("role")
    own = rows.groupby("role")
    assert own["learned"].sum().to_dict() == summary["views_learned"].to_dict()
    assert own["accuracy"].mean().to_dict() == pytest.approx(summary["accuracy_on_single_views"].to_dict())
    # they classify better than chance what shows one view alone, which is in neither training nor test set
    assert summary["accuracy_on_single_views"].min() > 1 / 3


def test_other_data_are_passed_over(tmp_path, capsys):
    words = [word for word in SMALL if not word.startswith("dataset")]
    assert main.main([*words, "dataset.train_limit=48", "recipe.epochs=1", f"outputs={tmp_path}"]) == 0
    assert main.main(["diagnose", "views", "--outputs", str(tmp_path)]) == 0
    assert "no run on dataset=multiview" in capsys.readouterr().out
