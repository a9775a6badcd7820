"""OFD: the margins, the partial distance, and where margins come from."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.ofd import OFD, closing
from kdrun.methods.losses.feature import expected_negative, measured_negative, ofd
from kdrun.models.plain import CNN
from kdrun.models.resnet import ResNet
from kdrun.models.roles import Role
from kdrun.models.wrn import WideResNet
from kdrun.tasks.classification import Classification
from tests.toy import toy_experiment, toy_run


def test_known_margins():
    mean = torch.tensor([0.0, 0.5, 4.0, 0.5], dtype=torch.float64)
    scale = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    assert expected_negative(mean, scale).tolist() == pytest.approx([-0.797885, -0.641078, -3.0, -0.641078], abs=1e-6)
    assert torch.isfinite(expected_negative(mean, 0 * scale)).all()


def test_the_closed_form_is_the_expectation():
    draws = torch.randn(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.7 + 0.3
    wanted = expected_negative(torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64))
    assert measured_negative(draws[:, None, None, None]).item() == pytest.approx(wanted.item(), abs=3e-3)
    assert measured_negative(torch.ones(2, 3, 1, 1)).tolist() == [0, 0, 0]


def test_known_distance():
    student = torch.tensor([[1.0, -2.0, 0.0, -0.3]], dtype=torch.float64)
    teacher = torch.tensor([[2.0, -1.0, -1.0, -0.2]], dtype=torch.float64)
    target = teacher.clamp_min(-0.5)
    assert ofd(target, student).item() == pytest.approx(1.25, abs=1e-9)
    assert ofd(target.clamp_min(-0.5), target).item() == 0
    maps = [values[:, :, None, None] for values in (teacher, student)]
    method = OFD(weight=1.0, reference=None, scaling="none", ce_weight=1.0)
    margin = torch.full((4,), -0.5, dtype=torch.float64)
    assert method.distance(maps[:1], [margin], maps[1:]).item() == pytest.approx(1.25, abs=1e-9)
    assert method.distance(maps[:1] * 2, [margin] * 2, maps[1:] * 2).item() == pytest.approx(1.25 * 1.5, abs=1e-9)
    assert method.distance(maps[:1], [margin], [maps[0].clamp_min(-0.5)]).item() == 0


def test_where_margins_come_from():
    plain = Role(CNN(widths=[4, 6], classes=3, channels=1), "teacher", Classification((), (1, 8, 8)))
    wide = Role(WideResNet(depth=10, width=1, dropout=0.0, classes=3, channels=1), "teacher", Classification((), (1, 8, 8)))
    residual = Role(ResNet(depth=8, stem=4, widths=[4, 6, 8], classes=3, channels=1), "teacher", Classification((), (1, 8, 8)))
    assert closing(plain) == [plain.network.stages[0][1], plain.network.stages[1][1][1]]
    assert closing(wide) == [stage[-1] for stage in wide.network.stages]
    assert closing(residual) == [None, None, None]  # sums have no normalisation of their own


def test_a_teacher_that_learns_gets_no_gradient():
    run = toy_run("ofd", "online")
    next(run.method.phases(run))
    run.method.loss(run.networks, next(iter(run.stream.epoch(0, 1))))["ofd"].backward()
    assert all(weight.grad is None for weight in run.networks.teacher.parameters())
    assert all(weight.grad is not None for weight in run.method.parameters())
    assert len(list(run.method.parameters())) == 9, "the teacher's normalisations are not the method's"


def test_unequal_stages_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the student has 2 and the teacher 3"):
        toy_experiment("ofd", tmp_path, "student.widths=[6,8]")
