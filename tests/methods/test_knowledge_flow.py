"""Knowledge flow: the weights, and a student that stands alone in the end."""

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.multi_teacher.knowledge_flow import Flow
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import toy_run


@pytest.fixture
def parts(factory, data):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT))
    networks = Networks(nets.student().eval(), [frozen(teacher) for teacher in nets.untrained_teachers()])
    return networks, Batch(torch.randn(5, *data.shape), torch.arange(5) % 4)


def flow_of(networks):
    return Flow([shape[0] for shape in networks.student.shapes.stages],
                [[shape[0] for shape in teacher.shapes.stages] for teacher in networks.teachers])


def test_at_first_all_count_alike():
    flow = Flow([4, 8], [[6, 7, 9], [5]])
    assert torch.allclose(flow.shares, torch.full((2, 3), 1 / 3))
    assert float(flow.dependence.detach()) == pytest.approx(2 * 1.098612, abs=1e-5)
    assert flow.links == [[1, 0], [2, 0]]  # the second of three stages is the first that is half way


def test_a_student_that_counts_alone_answers_as_without_teachers(parts):
    networks, batch = parts
    flow, given = flow_of(networks), [teacher(batch) for teacher in networks.teachers]
    with torch.no_grad():
        mixed = flow(networks.student, given, batch).logits
        flow.scores[:, 1:] = 0.0  # a share of 0 in single precision
        flow.scores[:, 0] = 200.0
        alone = flow(networks.student, given, batch).logits
        own = networks.student(batch).logits
        assert float(flow.dependence) == 0
        flow.scores.zero_()
        flow.floor = 1.0
        forced = flow(networks.student, given, batch).logits
        flow.floor = 0.5
    assert torch.equal(alone, own)
    assert torch.equal(forced, own)
    assert not torch.allclose(mixed, own)
    assert torch.allclose(flow.shares, torch.tensor([[2 / 3, 1 / 6, 1 / 6]]).expand(3, 3))


def test_teachers_get_no_gradient_and_what_flows_does(parts):
    networks, batch = parts
    flow, given = flow_of(networks), [teacher(batch) for teacher in networks.teachers]
    for answer in given:
        for maps in answer.stages:
            maps.requires_grad_()
    flow(networks.student, given, batch).logits.square().sum().backward()
    assert all(maps.grad is None for answer in given for maps in answer.stages)
    assert all(weight.grad.abs().sum() > 0 for weight in flow.parameters())


def test_the_student_ends_alone_after_as_many_epochs_as_the_recipe_has():
    run = toy_run("knowledge_flow", "offline", "recipe.epochs=4", "method.alone_share=0.5")
    distill(run)
    assert [run.method.grown(epoch) for epoch in (0, 1)] == [0.0, 1.0]
    terms = [(row[2], row[4]) for row in run.history if row[3] == "train"]
    assert [epoch for epoch, term in terms if term == "ce with teachers"] == [0, 1]
    assert [epoch for epoch, term in terms if term == "ce"] == [2, 3]
    assert not list(run.method.parameters())
    (first, *_), tables = run.method.left, run.method.extra_tables(run)
    assert set(first) == {"stage", "student", "teacher", "teacher 2"}
    assert sum(value for key, value in first.items() if key != "stage") == pytest.approx(1)
    assert tables == {"flow": run.method.left}
