"""Methods across modalities: the teacher's network, statistics and pictures are of its modality, all else of the student's."""

import pytest
import torch

from kdrun.config import registry
from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.models.prediction import predict
from kdrun.models.roles import Role, frozen
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, toy_experiment, toy_run

LEFT = ("dataset=pair", "dataset.student_sees=left")
ACROSS = [key for key in ("kd", "pkt", "crd", "rkd") if key in registry.options("method")]


@pytest.mark.parametrize("key", ACROSS)
def test_each_sees_its_own_from_config_to_rows(key, tmp_path):
    rows = rows_of(toy_experiment(key, tmp_path, *LEFT))
    assert {row["dataset"] for row in rows.values()} == {"digits_picture_left"}
    # half the picture: half the work of the same network
    assert rows["student"]["flops"] == rows["baseline"]["flops"] < rows["teacher"]["flops"] / 2
    stored = {path.name.partition("-s1-")[0] for path in (tmp_path / "store").iterdir()}
    assert stored == {"digits-teacher-cnn", "digits_left-student-cnn"}


@pytest.mark.parametrize("key", ACROSS)
@pytest.mark.parametrize("scheme", ["offline", "online"])
def test_the_teacher_is_asked_about_its_modality(key, scheme, monkeypatch):
    run = toy_run(key, scheme, *LEFT)
    shown = {}
    pictures_of = Role.inputs

    def watch(role, asked):
        pictures = pictures_of(role, asked)
        shown.setdefault(role.name, set()).add(tuple(pictures.shape[1:]))
        return pictures

    monkeypatch.setattr(Role, "inputs", watch)
    distill(run)
    assert shown["teacher"] == {(1, 8, 8)}
    assert shown["student"] == {(1, 8, 4)}


@pytest.mark.parametrize("key", ACROSS)
def test_unpaired_carries_over_something_else(key):
    ends = []
    for paired in ("true", "false"):
        run = toy_run(key, "offline", *LEFT, f"dataset.paired={paired}")
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_whoever_teaches_itself_sees_what_the_student_sees():
    run = toy_run("kd", "self", *LEFT)
    assert run.networks.teacher.view is None
    distill(run)


def test_a_baseline_does_not_depend_on_what_the_teacher_sees(tmp_path):
    one = rows_of(toy_experiment("kd", tmp_path, "dataset=pair", "dataset.student_sees=edges"))
    entries = {path.name for path in (tmp_path / "store").iterdir()}
    other = rows_of(toy_experiment("kd", tmp_path, "dataset=pair", "dataset.student_sees=edges", "dataset.teacher_sees=left"))
    assert one["baseline"]["accuracy"] == other["baseline"]["accuracy"]
    new = {path.name for path in (tmp_path / "store").iterdir()} - entries
    assert {name.partition("-s1-")[0] for name in new} == {"digits_left-teacher-cnn"}


class TestRole:
    def role(self):
        toy = prepared(("kd", *LEFT))
        return toy.factory(rehearsal=True).build(toy.teacher_specs[0], "teacher")

    def test_it_and_its_copies_take_their_view_of_a_batch(self):
        role = self.role()
        wide, narrow = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 4)
        batch = Batch(narrow, views={"teacher": wide})
        wanted = frozen(role)(batch).logits
        role.eval()
        assert torch.equal(role(batch).logits, wanted)
        assert torch.equal(role.network(wide).logits, wanted)

    @pytest.mark.parametrize("asked", [torch.zeros(2, 1, 8, 8), Batch(torch.zeros(2, 1, 8, 8))])
    def test_pictures_of_unknown_modality_are_refused(self, asked):
        with pytest.raises(ValueError, match="another modality"):
            self.role()(asked)

    def test_it_is_tested_on_its_modality(self):
        toy, role = prepared(("kd", *LEFT)), self.role()
        seen = toy.data.seen("teacher")
        x = seen.whole(seen.test, toy.device)
        with torch.inference_mode():
            wanted = role.network.eval()(x).logits
        assert torch.allclose(predict(role, toy.data, toy.data.test, toy.device), wanted, atol=1e-6)


def test_a_method_that_makes_its_own_pictures_is_refused():
    if "dafl" not in registry.options("method"):
        pytest.skip("no method here makes its own pictures")
    with pytest.raises(ConfigError, match="another modality than the student"):
        prepared(("dafl", *LEFT))
