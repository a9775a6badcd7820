"""Parts of the classes: which there are, and what a teacher of one sees, is called and is measured on."""

import pytest
import torch

from kdrun.config.identity import identity
from kdrun.config.schema import ConfigError, Settings
from kdrun.config.validation import problems
from kdrun.data.class_parts import class_parts
from kdrun.experiment import Experiment
from kdrun.utils.progress import Progress
from tests.toy import prepared, rows_of, settings_of, toy_experiment, toy_run, toy_settings

PARTS = "teacher_classes=[[7,1,2,3,4],[0,4,5,6,8,9]]"


def test_parts_are_as_equal_as_can_be_or_as_they_are_given():
    assert class_parts(2, 10) == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    assert list(map(len, class_parts(3, 10))) == [3, 3, 4]
    assert class_parts([[2, 0], [1, 2]], 3) == [(2, 0), (1, 2)]


@pytest.mark.parametrize(("wanted", "told"), [
    (6, "got 6, but a teacher needs two classes at least, and there are 10; wanted at most 5"),
    ([[0, 1], [2, 10]], "there is no class 10; the 10 classes are numbered from 0"),
    ([[0, 1, 2, 3, 4], [5, 6, 7]], "no teacher knows classes 8-9; wanted every class in one part at least"),
])
def test_parts_that_cannot_be(wanted, told):
    with pytest.raises(ValueError, match="^" + told):
        class_parts(wanted, 10)


def test_data_of_some_classes_are_those_samples_numbered_anew():
    whole = prepared(("vanilla",)).data
    some = whole.only((7, 1, 4))
    assert some.classes == ("7", "1", "4")
    assert some.task.numbers == (7, 1, 4)
    own = torch.isin(whole.train.labels, torch.tensor([1, 4, 7]))
    assert torch.equal(some.train.inputs, whole.train.inputs[own])
    assert torch.equal(torch.tensor([7, 1, 4])[some.train.labels], whole.train.labels[own])
    assert set(some.test.labels.tolist()) == set(some.validation.labels.tolist()) == {0, 1, 2}
    assert some.only((7, 1, 4)) is some
    assert whole.only(None) is whole.only(range(10)) is whole
    assert len({whole.digest, some.digest, whole.only((1, 7, 4)).digest}) == 3  # other labels, another training


def test_teachers_know_their_classes_and_are_told_and_measured_so(tmp_path):
    rows = toy_experiment("uhc", tmp_path, PARTS)
    by_role = rows_of(rows)
    assert by_role["teacher"]["model"] == "cnn (classes 7, 1-4)"
    assert by_role["teacher 2"]["model"] == "cnn (classes 0, 4-6, 8-9)"
    assert by_role["student"]["relative_error"] is None  # they answer other questions
    assert by_role["student"]["weak_teacher"] is None
    per_class = (next(tmp_path.glob("runs/*")) / "per_class.csv").read_text().splitlines()
    assert [line.split(",")[-4] for line in per_class if ",teacher," in line] == ["7", "1", "2", "3", "4"]
    run = toy_run("uhc", "offline", PARTS)
    assert [role.task.numbers for role in run.networks.teachers] == [(7, 1, 2, 3, 4), (0, 4, 5, 6, 8, 9)]
    assert run.networks.teachers[0].shapes.logits == (5,)
    assert run.networks.student.shapes.logits == (10,)


def test_runs_without_parts_are_called_as_before():
    settings = toy_settings("kd")
    before = Settings({key: value for key, value in settings.values.items() if key != "teacher_classes"}, settings.choices)
    assert identity(before) == identity(settings)
    assert before.run.teacher_classes is None
    parted = [identity(toy_settings("uhc", f"teacher_classes={number}")) for number in (2, 3)]
    assert parted[0] != parted[1]


@pytest.mark.parametrize(("words", "told"), [
    (["method=kd", "teacher_classes=2"], "teacher_classes: the teachers of method=kd know all classes; leave it out"),
    (["method=uhc"], "method=uhc learns from teachers that know a part of the classes each; give teacher_classes=2 for"),
    (["method=uhc", "teacher_classes=3", "teachers=[cnn,mlp]"], "got 3 parts for 2 teachers; wanted one part for each"),
    (["method=uhc", "teacher_classes=[[0,0],[1,2]]"], "got the part [0, 0], wanted two different classes at least, each once"),
    (["method=uhc", "teacher_classes=[[0],[1,2]]"], "got the part [0], wanted two different classes at least"),
    (["method=uhc", "teacher_classes=half"], "teacher_classes: got 'half', wanted a whole number or a list"),
    (["method=uhc", "teacher_classes=[[0,-1]]"], "teacher_classes: got [[0, -1]], wanted"),
])
def test_settings_that_cannot_be_are_told_in_a_line(words, told):
    assert any(told in line for line in problems(settings_of(*words)))


def test_classes_that_the_data_have_not_are_told_before_anything_is_trained():
    with pytest.raises(ConfigError, match=r"^teacher_classes: there is no class 10"):
        Experiment.prepare(toy_settings("uhc", "teacher_classes=[[0,1,2,3,4,5],[6,7,8,9,10]]"), Progress(None))
