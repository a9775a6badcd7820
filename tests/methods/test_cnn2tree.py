"""A tree grown from a teacher's answers."""

from dataclasses import replace

import pandas
import pytest
import torch
from safetensors.torch import load_file

from kdrun.config.schema import ConfigError
from kdrun.experiment import Experiment
from kdrun.models.tree import Tree
from kdrun.training.loop import distill
from kdrun.utils.progress import Progress
from tests.toy import rows_of, toy_experiment, toy_run, toy_settings


def test_without_limits_it_says_what_the_teacher_says_of_every_training_picture():
    run = toy_run("cnn2tree", "offline", "student.max_depth=null", "student.min_samples_leaf=1")
    distill(run)
    pictures = run.data.whole(run.data.train, run.device)
    with torch.no_grad():
        wanted = run.networks.teacher(pictures).logits
    torch.testing.assert_close(run.method.answers, wanted)
    assert torch.equal(run.networks.student(pictures).logits.argmax(1), wanted.argmax(1))
    assert run.history[-1][-1] == pytest.approx(0, abs=1e-9)


def test_rows_files_and_report(tmp_path):
    rows = rows_of(toy_experiment("cnn2tree", tmp_path, "student.max_depth=4", "student.min_samples_leaf=2"))
    student, baseline = rows["student"], rows["baseline"]
    (folder,) = (tmp_path / "runs").iterdir()
    report = pandas.read_csv(folder / "tree.csv").set_index(["grown_from", "split"])
    for row, grown in ((student, "logits"), (baseline, "labels")):
        told = report.loc[grown, "test"]
        assert row["parameters"] == told["nodes"] == 2 * told["leaves"] - 1
        assert row["accuracy"] == pytest.approx(told["accuracy"])
        assert row["flops"] is None
        assert row["latency_ms"] > 0
        assert 1 <= told["depth"] <= 4
    assert student["agreement"] == pytest.approx(report.loc["logits", "test"]["fidelity"])
    assert baseline["epochs"] is None
    assert student["distillation_factor"] == pytest.approx(rows["teacher"]["parameters"] / student["parameters"])
    saved = Tree(max_depth=4, min_samples_leaf=2, classes=10)
    saved.load_state_dict(load_file(folder / "student.safetensors"))
    assert len(saved.answer) == student["parameters"]


def test_a_network_is_no_tree():
    tree = toy_settings("cnn2tree")
    cnn = replace(tree, values=tree.values | {"student": toy_settings("kd").values["student"]})
    with pytest.raises(ConfigError, match="student=tree"):
        Experiment.prepare(cnn, Progress(None))
