"""Two-stage teachers: classifiers that are one in the end."""

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.multi_teacher.mt_two_stage import Heads, TwoStageTeachers
from kdrun.methods.response.kd import KD
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import toy_run


def two_stage(distance="mse", alpha=0.5):
    return TwoStageTeachers(distance=distance, temperature=4.0, alpha=alpha, pretraining_epochs=1)


def test_the_students_own_classifier_is_the_mean_of_all():
    torch.manual_seed(0)
    heads, embedding = Heads(6, 3, 4).double(), torch.randn(5, 6, dtype=torch.float64)
    own = torch.randn(5, 3, dtype=torch.float64)
    logits = heads(ModelOutput(own, embedding))
    assert logits.shape == (4, 5, 3)
    assert torch.allclose(logits.mean(dim=0), own, atol=1e-12)
    assert float((logits[0] - logits[1]).abs().max().detach()) > 0.1


def test_one_teacher_is_hintons_method(factory, data):
    nets = factory(teachers=(TINY_TEACHER,))
    networks = Networks(nets.student().eval(), [frozen(nets.untrained_teachers()[0])])
    batch = Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)
    method = two_stage("kd", 0.9)
    method.setup(networks, data)
    kd = KD(temperature=4.0, ce_weight=0.1, kd_weight=0.9, form="zhu").loss(networks, batch)
    terms = method.loss(networks, batch)
    assert [float(terms[name].detach()) for name in ("ce heads", "soft")] == pytest.approx(
        [float(kd[name].detach()) for name in ("ce", "kd")], rel=1e-5)


def test_each_classifier_follows_its_own_teacher(factory, data):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT))
    networks = Networks(nets.student().eval(), [frozen(teacher) for teacher in nets.untrained_teachers()])
    method = two_stage()
    method.setup(networks, data)
    batch, asked = Batch(torch.randn(6, *data.shape), torch.arange(6) % 4), [0.0, 0.0]
    with torch.no_grad():
        logits = method.heads(networks.student(batch))
        for number, teacher in enumerate(networks.teachers):
            asked[number] = float((logits[number].softmax(1) - teacher(batch).logits.softmax(1)).square().sum() / 6)
    assert float(method.soft(networks, batch)["soft"].detach()) == pytest.approx(sum(asked), rel=1e-5)


def test_the_first_stage_needs_no_labels_and_nothing_of_the_classifiers_is_left():
    run = toy_run("mt_two_stage", "offline", "recipe.epochs=1")
    distill(run)
    terms = {row[1]: {other[4] for other in run.history if other[1] == row[1] and other[3] == "train"} for row in run.history}
    assert terms == {"pre-training": {"soft"}, "distill": {"ce heads", "soft"}}
    assert not list(run.method.parameters())
