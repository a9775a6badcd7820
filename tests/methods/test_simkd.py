"""SimKD: the teacher's classifier on the student, as a network of its own."""

import json

import pytest
import torch

import kdrun
from kdrun.config.schema import ConfigError
from kdrun.models.plain import CNN
from tests.toy import prepared, rows_of, toy_experiment, toy_run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simkd")
    toy_experiment("simkd", folder)
    return folder


def test_equal_maps_give_the_teachers_answer():
    run = toy_run("simkd", "offline", "student.widths=[6,8,12]")
    run.method.setup(run.networks, run.data)
    student, teacher = run.networks.student, run.networks.teacher
    student.network.load_state_dict(teacher.network.state_dict())
    run.method.head.projector = torch.nn.Identity()
    batch = next(run.stream.epoch(0, 1))
    student.eval()
    assert run.method.loss(run.networks, batch)["simkd"].item() == 0
    assert torch.equal(run.method.trained_networks(run.networks)["student"].eval()(batch.x).logits, teacher(batch).logits)


def test_labels_and_the_students_own_classifier_play_no_part():
    run = toy_run("simkd", "offline")
    run.method.setup(run.networks, run.data)
    batch = next(run.stream.epoch(0, 1))
    batch.y = None
    run.method.loss(run.networks, batch)["simkd"].backward()
    assert run.networks.student.network.head.weight.grad is None
    assert run.networks.student.network.stages[0][0].weight.grad is not None
    assert not run.method.head.classifier.weight.requires_grad
    assert torch.equal(run.method.head.classifier.weight, run.networks.teacher.network.head.weight)
    run.method.trained_networks(run.networks)
    assert isinstance(run.networks.student.network.head, torch.nn.Linear)  # cut off in what comes out, not in what learns


def test_what_comes_out_is_counted_and_can_be_built_again(outputs):
    run = next(folder for folder in (outputs / "runs").iterdir() if (folder / "run.json").exists())
    rows = rows_of(json.loads((run / "run.json").read_text())["rows"])
    backbone = 4 * 9 + 4 * 6 * 9 + 6 * 8 * 9 + 2 * (4 + 6 + 8)
    projector, classifier = 8 * 6 + 6 * 6 * 9 + 6 * 12 + 2 * (6 + 6 + 12), 12 * 10 + 10
    assert rows["student"]["parameters"] == backbone + projector + classifier
    assert rows["student"]["model"] == "cnn with its teacher's classifier"
    assert rows["student"]["latency_ms"] is None or rows["student"]["latency_ms"] > 0
    loaded, data = kdrun.load(run / "student.safetensors"), prepared(("simkd",)).data
    with torch.no_grad():
        answers = loaded.network(loaded.preprocess(data.test.inputs)).logits
    assert float((answers.argmax(1) == data.test.labels).double().mean()) == pytest.approx(rows["student"]["accuracy"])


def test_it_lends_its_loss_to_nobody(tmp_path):
    with pytest.raises(ConfigError, match="base: what SimKD makes is another network that has the student as a part"):
        toy_experiment("takd", tmp_path, "method/base=simkd")


def test_in_a_sum_what_it_makes_is_the_student():
    run = toy_run("combine", "offline", "method/first=simkd", "method/second=kd")
    next(iter(run.method.phases(run)))
    assert run.method.trained_networks(run.networks)["student"].model == "cnn with its teacher's classifier"


def test_a_classifier_of_something_else_than_the_mean_of_the_map_is_refused(tmp_path, monkeypatch):
    forward = CNN.forward
    monkeypatch.setattr("kdrun.models.plain.CNN.forward", lambda network, pictures: forward(network, pictures).replace(
        stages=(torch.ones(len(pictures), 12, 2, 2),)))
    with pytest.raises(ConfigError, match="a teacher whose classifier sees the mean of its last map"):
        toy_experiment("simkd", tmp_path)
