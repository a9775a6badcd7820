"""ZSKD: how alike classes are, the answers drawn from it, and the impressions."""

import math
from unittest import mock

import pytest
import torch
from torch import tensor

from kdrun.data.batch import Batch
from kdrun.data.noise import Noise
from kdrun.methods.data_free.zskd import classifier, concentration, cross_entropy, draw_targets, rescaled, similarity
from kdrun.models.roles import Role
from kdrun.tasks.classification import Classification
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64
WEIGHTS = tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
ROOT = 0.5**0.5


def test_similarity_of_known_weights():
    similar = similarity(WEIGHTS)
    assert similar[0].tolist() == pytest.approx([1, 0, ROOT], abs=1e-6)
    assert similarity(3 * WEIGHTS).flatten().tolist() == pytest.approx(similar.flatten().tolist(), abs=1e-9)


def test_the_scale_comes_after_the_range():
    similar = similarity(WEIGHTS)
    assert concentration(similar, 1.0)[0].tolist() == pytest.approx([1.0001, 0.0001, ROOT + 0.0001], abs=1e-6)
    assert concentration(similar, 0.1)[0].tolist() == pytest.approx([0.1001, 0.0001, 0.1 * ROOT + 0.0001], abs=1e-6)
    assert concentration(similar, 1.0)[2].tolist() == pytest.approx([0.0001, 0.0001, 1.0001], abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_mean_answers_tend_to_the_concentration(scale):
    torch.manual_seed(0)
    drawn = draw_targets(similarity(WEIGHTS), [scale], 30_000)
    assert drawn.sum(dim=1).tolist() == pytest.approx([1] * len(drawn), abs=1e-9)
    assert float(drawn.min()) > 0
    alpha = concentration(similarity(WEIGHTS), scale)[0]
    assert drawn[::3].mean(dim=0).tolist() == pytest.approx((alpha / alpha.sum()).tolist(), abs=0.02)


def test_every_scale_has_its_share():
    torch.manual_seed(0)
    drawn = draw_targets(similarity(WEIGHTS), [1.0, 0.02], 6000)
    sure = (drawn[::3].amax(dim=1) > 0.99).double()  # of class 0, between classes 0 and 2
    assert sure[:1000].mean() < 0.2
    assert sure[1000:].mean() > 0.85


def test_soft_cross_entropy_and_rescaling():
    wanted = tensor([[0.25, 0.75]], dtype=F64)
    logits = 20 * wanted.log()
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert cross_entropy(wanted, logits, 20.0).item() == pytest.approx(entropy, abs=1e-6)
    assert rescaled(tensor([-1.0, 0.0, 3.0])).tolist() == pytest.approx([0, 0.25, 1])
    assert rescaled(tensor([-1.0, 0.0, 3.0, 2.0, 6.0, 4.0]), 2).tolist() == pytest.approx([0, 0.25, 1, 0, 1, 0.5])


def test_batches_side_by_side_become_what_each_becomes_alone():
    def made(together):
        words = ["method.impressions=40", f"method.together={together}", "method.iterations=4", "method.impression_lr=0.05"]
        run = toy_run("zskd", "offline", *words)
        noise = torch.rand(40, 8, 8, 1, generator=torch.Generator().manual_seed(0))
        with mock.patch.object(Noise, "epoch", lambda self, *_: (
                Batch(part, index=torch.arange(len(part)) + step * len(part), step=step)
                for step, part in enumerate(noise.split(self.batch_size)))):
            distill(run)
        return run.method.images

    assert torch.allclose(made(1), made(2), atol=1e-5)


def test_a_teacher_without_a_classifier_is_refused():
    teacher = Role(torch.nn.Conv2d(1, 1, 1), "teacher", Classification((), (1, 8, 8)), "strange")
    with pytest.raises(ValueError, match="linear layer of 10 outputs, and strange has none"):
        classifier(teacher, 10)


def test_impressions_come_first_and_move_nobody():
    run = toy_run("zskd", "offline", "method.iterations=30", "method.impression_lr=0.05")
    phases, ends, losses = run.method.phases, [], []
    inner = run.method.step

    def watched_step(networks, batch):
        assert not networks.student.network.training
        own = []
        for player, terms in inner(networks, batch):
            own.append(float(terms["ce"].detach()))
            yield player, terms
        losses.append(own)

    def watched(run):
        before = state(run.networks.student)
        for phase in phases(run):
            yield phase
            now = state(run.networks.student)
            ends.append((phase.name, all(torch.equal(before[name], now[name]) for name in now)))

    run.method.phases, run.method.step = watched, watched_step
    distill(run)
    assert ends == [("impressions", True), ("distill", False)]
    assert all(own[-1] < own[0] for own in losses), "every batch descends anew"
    images, soft = run.method.images, run.method.soft
    assert images.shape == (60, 8, 8, 1)
    assert float(images.min()) == 0
    assert float(images.max()) == 1
    assert soft.sum(dim=1).tolist() == pytest.approx([1] * 60, abs=1e-5)
    with torch.no_grad():
        answer = run.networks.teacher(run.data.normalise(images)).logits / run.method.temperature
    assert torch.allclose(answer.softmax(dim=1), soft, atol=1e-5)
