"""Modality hallucination: its numbers, what it starts from, and that it never sees the teacher's modality at test time."""

import copy
import math

import pandas
import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.cross_modal.hallucination import TwoStreams, calibrated, distance
from kdrun.models.prediction import predict
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, toy_experiment, toy_run

F64 = torch.float64


def test_squashed_maps():
    teacher, imagined = torch.zeros(2, 3, 1, 1, dtype=F64), torch.full((2, 3, 1, 1), math.log(3), dtype=F64)
    assert float(distance(teacher, imagined)) == pytest.approx(3 * 0.0625, abs=1e-9)


def test_the_weight_is_set_by_the_largest_other_term():
    terms = {"one": tensor(0.5, dtype=F64), "two": tensor(2.0, dtype=F64)}
    assert float(calibrated(10.0, tensor(4.0, dtype=F64), terms)) == pytest.approx(5)
    assert float(calibrated(10.0, tensor(0.0, dtype=F64), terms)) == 0


def terms_of(run):
    next(run.method.phases(run))
    (batch, *_) = run.stream.epoch(0, 1)
    return batch, run.method.loss(run.networks, batch)


def test_the_first_step_sets_the_weight_and_later_steps_keep_it():
    run = toy_run("hallucination", "offline")
    _, terms = terms_of(run)
    others = [float(term.detach()) for name, term in terms.items() if name != "hallucination"]
    assert float(terms["hallucination"].detach()) == pytest.approx(10 * max(others), rel=1e-5)
    kept = run.method.weight.clone()
    run.method.loss(run.networks, list(run.stream.epoch(0, 1))[1])
    assert torch.equal(run.method.weight, kept)


def test_it_starts_as_the_teacher_where_that_fits():
    run = toy_run("hallucination", "offline", "dataset.student_sees=edges")
    next(run.method.phases(run))
    (imagining,), teacher = run.networks.peers, run.networks.teacher
    assert all(torch.equal(value, teacher.network.state_dict()[name]) for name, value in imagining.network.state_dict().items())
    assert all(weight.requires_grad for weight in imagining.parameters())
    assert imagining.view is None  # sees what the student sees
    assert teacher.view == "teacher"


def test_each_term_teaches_whom_it_should():
    run = toy_run("hallucination", "offline")
    _, terms = terms_of(run)
    (imagining,), student = run.networks.peers, run.networks.student
    for name, reached in (("ce", (student,)), ("ce hallucination", (imagining,)), ("hallucination", (imagining,)),
                          ("ce with hallucination", (student, imagining)), ("ce with teacher", (student,))):
        for role in (student, imagining, run.networks.teacher):
            grads = torch.autograd.grad(terms[name], [*role.parameters()], retain_graph=True, allow_unused=True) \
                if role is not run.networks.teacher else [weight.grad for weight in role.parameters()]
            assert any(grad is not None for grad in grads) == (role in reached), (name, role.name)


def test_at_test_time_the_teacher_is_not_asked(monkeypatch):
    run = toy_run("hallucination", "offline")
    distill(run)
    network = run.method.trained_networks(run.networks)["student"]
    monkeypatch.setattr(run.networks.teacher, "forward", None)
    assert isinstance(network, TwoStreams)
    logits = predict(network, run.data, run.data.test, run.device)
    alone = [predict(role, run.data, run.data.test, run.device) for role in (run.networks.student, *run.networks.peers)]
    assert torch.allclose(logits, (alone[0] + alone[1]) / 2, atol=1e-6)


def test_both_streams_are_counted_and_reported(tmp_path):
    rows = rows_of(toy_experiment("hallucination", tmp_path))
    assert rows["student"]["parameters"] == rows["stream"]["parameters"] + rows["teacher"]["parameters"]
    assert rows["student"]["model"] == "cnn+cnn"
    (table,) = tmp_path.glob("runs/*/modalities.csv")
    told = pandas.read_csv(table).set_index("streams")["accuracy"]
    assert told["student and hallucination"] == pytest.approx(rows["student"]["accuracy"])
    assert told["student"] == pytest.approx(rows["stream"]["accuracy"])
    assert told["teacher"] == pytest.approx(rows["teacher"]["accuracy"])


def test_the_hallucination_learns():
    run = toy_run("hallucination", "offline")
    start = copy.deepcopy(run.factory.build(run.factory.teacher_specs[0], "hallucination").state_dict())
    distill(run)
    (imagining,) = run.networks.peers
    assert any(not torch.equal(start[name], value) for name, value in imagining.state_dict().items())


def test_a_stage_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"method.stage is 9, but the teacher has 3 stages"):
        prepared(("hallucination", "method.stage=9"))
