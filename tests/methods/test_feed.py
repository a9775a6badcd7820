"""FEED: the transformations, and who teaches whom."""

import torch
from torch import nn

from kdrun.data.batch import Batch
from kdrun.methods.feature.ft import FT
from kdrun.methods.multi_teacher.feed import FEED
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import toy_run


def feed():
    return FEED(generations=1, weight=10.0, reference=None, scaling="none", ce_weight=1.0)


def test_maps_alike_but_for_their_size_cost_nothing_and_each_teacher_counts(factory, data):
    nets = factory(teachers=(TINY_STUDENT, TINY_TEACHER))
    student = nets.student().eval()
    same, other = frozen(student), frozen(nets.student(1))
    same.shown = lambda output: output.replace(stages=tuple(3 * maps for maps in output.stages))
    method, batch = feed(), Batch(torch.randn(4, *data.shape), torch.arange(4))
    method.setup(Networks(student, [same]), data)
    method.transformations = nn.ModuleList([nn.Identity()])
    assert float(method.loss(Networks(student, [same]), batch)["feed"].detach()) < 1e-6
    method.transformations = nn.ModuleList([nn.Identity(), nn.Identity()])
    both = method.loss(Networks(student, [same, other]), batch)["feed"].detach()
    method.transformations = nn.ModuleList([nn.Identity()])
    assert torch.allclose(both, method.loss(Networks(student, [other]), batch)["feed"].detach())


def test_one_teacher_is_factor_transfer_without_a_paraphraser(factory, data):
    nets = factory(teachers=(TINY_TEACHER,))
    networks = Networks(nets.student().eval(), [frozen(nets.untrained_teachers()[0])])
    batch, method = Batch(torch.randn(4, *data.shape), torch.arange(4)), feed()
    method.setup(networks, data)
    ft = FT(rate=1.0, reconstruction="l1", paraphraser_epochs=0, factor="full", weight=10.0, reference=None, scaling="none",
            ce_weight=1.0)
    ft.setup(networks, data)
    ft.paraphraser, ft.translator = nn.Sequential(), method.transformations[0]
    assert torch.equal(method.loss(networks, batch)["feed"], ft.loss(networks, batch)["ft"])


def test_a_generation_teaches_the_next_one_alone():
    run = toy_run("feed", "offline", "recipe.epochs=1")
    first = run.networks.student
    distill(run)
    (teacher,) = run.networks.teachers
    assert run.networks.student is not first
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in teacher.state_dict().items())
    assert len(run.method.transformations) == 1
    assert [row[1] for row in run.history if row[4] == "feed"] == ["generation 1", "generation 2"]
