"""Teachers of different classes put together: the joined logits, the common maps, the choice of a teacher, the estimates."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdrun.methods.losses.amalgamation import (
    connected,
    joined_logits,
    partial_cross_entropy,
    surest,
    unified,
    unit_norms,
)
from kdrun.methods.losses.graph import squared_mmd
from kdrun.methods.multi_teacher.amalgam import AmalgamBlock
from kdrun.methods.multi_teacher.amalgam_adaptive import Distillers
from kdrun.methods.multi_teacher.amalgam_common import CommonSpace
from kdrun.models.roles import Networks
from kdrun.training.loop import distill
from tests.toy import toy_run

HALVES = [(0, 1), (1, 2)]
SAID = [torch.tensor([[0.8, 0.2]], dtype=torch.float64).log(), torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()]


def test_joined_logits_are_side_by_side_and_in_the_order_of_the_classes():
    left, right = torch.randn(3, 2), torch.randn(3, 3)
    both = torch.cat([left, right], dim=1)
    assert torch.equal(joined_logits([left, right], [(0, 1), (2, 3, 4)], 5), both)
    assert torch.equal(joined_logits([left, right], [(3, 1), (0, 4, 2)], 5)[:, [3, 1, 0, 4, 2]], both)


def test_the_least_cross_entropy_is_where_the_estimate_explains_every_teacher():
    q = torch.tensor([[2 / 3, 1 / 6, 1 / 6]], dtype=torch.float64)
    entropies = sum(-(one.exp() * one).sum().item() for one in SAID)
    assert partial_cross_entropy(SAID, q.log(), HALVES).item() == pytest.approx(1.193549, abs=1e-6) == pytest.approx(entropies)
    assert torch.allclose(unified(SAID, HALVES, 3, "ce").exp(), q, atol=1e-9)
    assert torch.allclose(unified(SAID, HALVES, 3, "mf_logit", rounds=1000).exp(), q, atol=1e-9)
    assert torch.allclose(unified(SAID, HALVES, 3, "mf_prob", rounds=1000).exp(), q, atol=1e-9)


def test_the_slope_of_the_partial_cross_entropy_is_what_the_student_says_too_much():
    student = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    loss = partial_cross_entropy(SAID, student, HALVES)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(2), abs=1e-12)
    assert student.grad.tolist()[0] == pytest.approx([-0.3, 0.3, 0.0], abs=1e-12)


def test_one_teacher_of_all_classes_is_soft_cross_entropy_whatever_the_form():
    logits, every = torch.randn(4, 5, dtype=torch.float64), [range(5)]
    for form in ("ce", "mf_prob", "mf_logit", "sd"):
        found = unified([logits], every, 5, form, temperature=2.0, rounds=300)
        assert torch.allclose(found, F.log_softmax(logits / 2, dim=1), atol=1e-6)


def test_a_class_that_no_teacher_shares_leaves_them_apart():
    assert connected([(0, 1), (2, 3), (1, 2)])
    assert not connected([(0, 1), (2, 3), (3, 4)])
    run = toy_run("uhc", "offline", "teacher_classes=2")
    run.method.setup(run.networks, run.data)
    assert run.method.notes[1:] == ["the teachers of classes 0-4 and of classes 5-9 share no class, so nothing says how the "
                                    "classes of one compare with those of another"]


def test_the_surest_teacher_has_the_least_entropy_and_certainty_is_no_nan():
    sure, even = torch.tensor([[1000.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert surest([even, sure]).tolist() == [1, 0]


def test_rows_of_length_one_cost_nothing():
    weight = F.normalize(torch.randn(5, 3), dim=1)[..., None, None]
    assert unit_norms(weight).item() == pytest.approx(0, abs=1e-10)
    assert unit_norms(torch.zeros(5, 3, 1, 1)).item() == 1


def test_maps_that_are_the_same_cost_nothing_and_the_common_map_learns_from_rebuilding_alone():
    block, maps = AmalgamBlock(3, [3]), torch.randn(2, 3, 4, 4)
    for layer in (block.encoder, block.decoder, block.adaptor):
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)
    apart, rebuilt = block(maps, [maps])
    assert (apart.item(), rebuilt.item()) == (0, 0)
    block = AmalgamBlock(3, [4, 5])
    apart, _ = block(maps, [torch.randn(2, 4, 4, 4), torch.randn(2, 5, 4, 4)])
    apart.backward()
    assert block.encoder.weight.grad is None
    assert block.adaptor.weight.grad is not None


def test_the_discrepancy_of_common_features():
    deviations = [0.001, 0.01, 0.05, 0.1, 0.2, 1.0, 2.0]
    apart = squared_mmd(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), [one**2 for one in deviations])
    assert apart.item() == pytest.approx(11.7066, abs=1e-4)
    points, others = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    assert squared_mmd(points, points.flip(0), [1.0]).item() == pytest.approx(0, abs=1e-12)
    twice = squared_mmd(points.repeat(2, 1), others.repeat(2, 1), [1.0])
    assert twice.item() == pytest.approx(squared_mmd(points, others, [1.0]).item(), abs=1e-12)


def test_student_and_teachers_meet_in_a_space_where_the_teachers_can_be_rebuilt():
    space = CommonSpace(4, [4, 6], width=5)
    apart, rebuilt = space(torch.randn(3, 4, 2, 2), [torch.randn(3, 4, 2, 2), torch.randn(3, 6, 2, 2)], [1.0])
    apart.backward(retain_graph=True)
    assert space.decoders[0][1].weight.grad is None
    rebuilt.backward()
    assert all(weight.grad is not None for weight in space.parameters())


def test_distillers_compare_the_chosen_rows_alone():
    layers = Distillers([torch.Size((2, 4, 4))], [torch.Size((4, 2, 2))])
    maps, wanted = torch.randn(5, 2, 4, 4), torch.randn(5, 4, 2, 2)
    rows = torch.tensor([1, 3])
    some = layers([maps], [wanted], rows)
    assert some.item() == pytest.approx(layers([maps[rows]], [wanted[rows]], torch.arange(2)).item(), rel=1e-6)
    assert layers([maps], [wanted], rows[:0]).item() == 0


def test_components_know_the_classes_of_their_teachers_and_rest_while_the_student_learns():
    run = toy_run("amalgam_adaptive", "offline")
    distill(run)
    assert [peer.task.numbers for peer in run.networks.peers] == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    assert [peer.shapes.logits for peer in run.networks.peers] == [(5,), (5,)]
    assert not any(weight.requires_grad for peer in run.networks.peers for weight in peer.parameters())
    phases = {(row[1], row[4]) for row in run.history}
    assert ("components", "component 2 maps") in phases
    assert ("distill", "maps") in phases


def test_without_epochs_of_components_the_student_learns_from_the_surest_teacher_itself():
    run = toy_run("amalgam_adaptive", "offline", "method.component_epochs=0")
    phase = next(iter(run.method.phases(run)))
    assert phase.name == "distill"
    (_, groups), = run.method.lessons
    assert [[teacher.name for teacher in group] for group in groups] == [["teacher", "teacher 2"], ["teacher 3"]]
    batch = next(run.stream.epoch(0, 1))
    terms = dict(run.method.step(run.networks, batch))["student"]
    teachers = run.networks.teachers
    chosen = surest([teacher(batch).logits for teacher in teachers[:2]])
    wanted = torch.where(chosen[:, None] == 0, teachers[0](batch).logits, teachers[1](batch).logits)
    student = run.networks.student(batch).logits
    apart = (student[:, :5] - wanted).square().mean() + (student[:, 5:] - teachers[2](batch).logits).square().mean()
    assert terms["logits"].item() == pytest.approx(apart.item(), rel=1e-5)


@pytest.mark.parametrize("key", ["amalgam", "amalgam_common", "amalgam_adaptive", "uhc"])
def test_no_label_is_read(key):
    run = toy_run(key, "offline")
    next(iter(run.method.phases(run)))
    batch = next(run.stream.epoch(0, 1))
    batch.y = None
    assert all(term.isfinite() for _, terms in run.method.step(run.networks, batch) for term in terms.values())


def test_networks_of_other_numbers_of_stages_are_refused():
    run = toy_run("amalgam", "offline")
    deeper = run.factory.named("vgg8", "deeper")
    with pytest.raises(ValueError, match=r"the student cnn 3, .*the deeper vgg8 5 has; take networks of as many stages"):
        run.method.setup(Networks(run.networks.student, [run.networks.teachers[0], deeper]), run.data)


def test_a_balanced_estimate_has_every_class_as_often():
    run = toy_run("uhc", "offline", "method.form=ce", "method.balanced=true")
    next(iter(run.method.phases(run)))
    method, batches = run.method, list(run.data.plain(run.data.train, run.device))
    every = torch.cat([method.estimate(run.networks, batch).exp() for batch in batches])
    assert torch.allclose(method.means, every.mean(dim=0), atol=1e-6)
    assert torch.allclose((every / method.means).mean(dim=0), torch.ones(10), atol=1e-5)


@pytest.mark.parametrize("key", ["amalgam", "amalgam_common", "amalgam_adaptive", "uhc"])
def test_the_student_learns_from_the_samples_without_labels_where_there_are_some(key):
    run = toy_run(key, "offline", "dataset.labelled=40")
    phase = next(iter(run.method.phases(run)))
    batch = next(phase.data.epoch(0, 1))
    assert batch.y is None
    assert len(run.data.pool) == 8
    assert all(term.isfinite() for _, terms in run.method.step(run.networks, batch) for term in terms.values())
