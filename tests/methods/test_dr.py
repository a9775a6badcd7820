"""Distillation and retrospection: what each kind of picture teaches, the expert, and the ablations."""

import copy

import pytest
import torch

from kdrun.training.loop import distill
from tests.toy import toy_run


def second_task(*words):
    """A run whose second task is about to be learned, and that phase."""
    run = toy_run("dr", "self", "method.finetune=false", *words)
    phases = run.method.phases(run)
    phase = next(phases)
    while phase.name != "task 2":
        with torch.no_grad():  # as if trained: past, expert and student are three networks
            for weight in run.networks.student.parameters():
                weight.mul_(1.01).add_(0.01)
        phase = next(phases)
    return run, phase


def gradients(run, phase):
    """For each term, which rows of the head it moves."""
    (batch, *_) = phase.data.epoch(0, 1)
    ((_, terms),) = run.method.step(run.networks, batch)
    found = {}
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, [run.networks.student.network.head.weight], retain_graph=True)
        found[name] = (gradient.abs().sum(dim=1) > 0).nonzero()[:, 0].tolist()
    return batch, found


def test_kept_pictures_touch_the_old_head_alone_and_new_pictures_the_new_one():
    run, phase = second_task()
    batch, moved = gradients(run, phase)
    news = run.method.new
    assert len(batch) == 2 * news
    assert int(batch.y[:news].min()) >= 5
    assert int(batch.y[news:].max()) < 5
    assert set(moved) == {"new", "old"}
    assert set(moved["old"]) <= set(range(5))
    assert set(moved["new"]) <= set(range(5, 10))


@pytest.mark.parametrize(("term", "read"), [("old", "kept"), ("new", "new")])
def test_each_term_reads_its_pictures_alone(term, read):
    run, phase = second_task()
    run.networks.student.eval()  # in training mode batch statistics mix the pictures
    (batch, *_) = phase.data.epoch(0, 1)
    values = []
    for changed in (None, "new", "kept"):
        twin = copy.deepcopy(batch)
        rows = slice(0, run.method.new) if changed == "new" else slice(run.method.new, None)
        if changed:
            twin.x[rows] += 1
        values.append(float(run.method.loss(run.networks, twin)[term].detach()))
    same, others = values[0], dict(zip(("new", "kept"), values[1:], strict=True))
    assert others.pop(read) != pytest.approx(same, rel=1e-6)
    assert list(others.values()) == pytest.approx([same], rel=1e-6)


def test_no_label_is_read_by_the_full_method():
    run, phase = second_task()
    (batch, *_) = phase.data.epoch(0, 1)
    before = {name: float(term.detach()) for name, term in run.method.loss(run.networks, batch).items()}
    batch.y = None
    assert {name: float(term.detach()) for name, term in run.method.loss(run.networks, batch).items()} == before


def test_distillation_keeps_nothing():
    run, phase = second_task("method.mode=distillation")
    batch, moved = gradients(run, phase)
    assert len(batch) == run.method.new
    assert int(batch.y.min()) >= 5
    assert set(moved) == {"new", "old"}
    assert len(run.networks.teachers) == 2


def test_retrospection_has_labels_and_no_expert():
    run, phase = second_task("method.mode=retrospection")
    _, moved = gradients(run, phase)
    assert set(moved) == {"ce", "old"}
    assert len(run.networks.teachers) == 1


def test_the_expert_is_a_copy_that_the_student_does_not_follow():
    run = toy_run("dr", "self", "method.finetune=false")
    phases = run.method.phases(run)
    next(phases)
    student = run.networks.student
    first = copy.deepcopy(student.state_dict())
    expert = next(phases)
    assert expert.name == "task 2 expert"
    assert run.networks.student is not student
    assert expert.train == [run.networks.student]
    assert all(torch.equal(first[name], value) for name, value in run.networks.student.state_dict().items())
    with torch.no_grad():
        next(run.networks.student.parameters()).add_(1)
    next(phases)
    assert run.networks.student is student
    assert all(torch.equal(first[name], value) for name, value in student.state_dict().items())
    past, taught = run.networks.teachers
    assert torch.equal(next(past.parameters()), next(student.parameters()))
    assert torch.equal(next(taught.parameters()), next(student.parameters()) + 1)


def test_it_learns_five_tasks():
    run = toy_run("dr", "self", "method.split=5", "method.exemplars=2", "dataset.train_limit=100")
    distill(run)
    assert list(run.trained) == ["task 1", *(f"task {number}{kind}" for number in range(2, 6) for kind in (" expert", ""))]
    assert [len(told) for told in run.method.answers.values()] == [5, 5]
