"""Moonshine and online distillation of cheap convolutions: weights, what is drawn to what, and which network is kept."""

from unittest import mock

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.base import Run
from kdrun.training.loop import distill
from tests.models.test_zoo import build
from tests.toy import state, toy_run


def batch_of(run):
    return next(iter(run.stream.epoch(0, 1)))


@pytest.mark.parametrize(("widths", "share"), [("[4,6,8]", 1.0), ("[4,6]", 1.5)])
def test_moonshine_counts_the_same_over_however_many_maps(widths, share):
    words = [f"student.widths={widths}", f"teacher.widths={widths}"]
    found = {}
    for key in ("at", "moonshine"):
        run = toy_run(key, "offline", *words)
        run.method.setup(run.networks, run.data)
        found[key] = run.method.loss(run.networks, batch_of(run))
    assert found["moonshine"]["at"].item() == pytest.approx(share * found["at"]["at"].item(), rel=1e-5)
    assert torch.equal(found["moonshine"]["ce"], found["at"]["ce"])


@pytest.mark.parametrize("conv", ["depthwise", "bottleneck_2_groups_of_8"])
def test_a_student_of_cheap_convolutions_has_the_maps_of_its_teacher(conv):
    pictures = torch.zeros(2, 1, 8, 8)
    teacher, student = build("wrn_16_1", (1, 8, 8)), build("wrn_cheap", (1, 8, 8), width=1, conv=conv)
    shapes = [[maps.shape for maps in network(pictures).stages] for network in (teacher, student)]
    assert shapes[0] == shapes[1]


def ready(*words):
    run = toy_run("cheap_online", "online", "method.peers=2", *words)
    next(run.method.phases(run))
    return run


def slopes_of_the_teacher(run):
    """What the divergence alone does to the weights of whoever answers for the teacher."""
    term = run.method.loss(run.networks, batch_of(run))["kd"]
    weights = list((run.method.fusion.head if run.method.teacher == "fused" else run.networks.peers[-1]).parameters())
    return torch.autograd.grad(term, weights, allow_unused=True)


@pytest.mark.parametrize("teacher", ["fused", "standard"])
def test_the_teacher_is_drawn_to_its_students_unless_it_is_detached(teacher):
    words = [f"method.teacher={teacher}", "method.standard=cnn"]
    assert all(slope is not None and bool(slope.any()) for slope in slopes_of_the_teacher(ready(*words))[-2:])
    assert all(slope is None for slope in slopes_of_the_teacher(ready(*words, "method.detach=true")))


def test_the_authors_reduction_divides_by_the_classes_too():
    one, other = (ready(f"method.reduction={reduction}") for reduction in ("mean", "batchmean"))
    assert 10 * one.method.loss(one.networks, batch_of(one))["kd"].item() == pytest.approx(
        other.method.loss(other.networks, batch_of(other))["kd"].item(), rel=1e-5)


def test_the_network_that_is_best_in_validation_is_the_student():
    run = toy_run("cheap_online", "online", "method.peers=2")
    before = []

    def score(self, role):
        before.append(state(role.network))
        return {"student": 0.5, "peer 2": 0.7, "peer 3": 0.7}[role.name]

    with mock.patch.object(Run, "validated", score):
        distill(run)
    made = run.method.trained_networks(run.networks)
    assert list(made) == ["student", "peer 2", "peer 3"]  # the fused classifier is no product
    for role, own in (("student", before[1]), ("peer 2", before[0]), ("peer 3", before[2])):
        assert all(torch.equal(value, own[name]) for name, value in made[role].network.state_dict().items())


def test_without_a_validation_split_it_is_refused():
    with pytest.raises(ConfigError, match="there is none; set dataset\\.validation above 0"):
        toy_run("cheap_online", "online", "dataset.validation=0")
