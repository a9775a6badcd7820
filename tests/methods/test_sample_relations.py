"""IRG, LP, MLKD and information flow: relations among the samples of a batch, on numbers that can be computed by hand."""

import math

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.layers import irg_transformation, transformations
from kdrun.methods.losses.relation import affinities, hkd_flow, irg_edges, lp, mlkd_absolute, mlkd_relative
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run

UNITS = torch.eye(2, dtype=torch.float64)
SAME = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
RIGHT = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
EVEN = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
TURN = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_irg_edges_of_known_points():
    assert irg_edges(column(0, 1, 2), column(0, 1, 3)).item() == pytest.approx(0.0126886, abs=1e-6)
    points = draw(5, 2)
    assert irg_edges(points, 3 * points @ TURN + 7).item() == pytest.approx(0, abs=1e-12)


def test_irg_takes_the_largest_distance_for_a_constant():
    student = column(0, 1, 3).requires_grad_()
    irg_edges(column(0, 1, 2), student).backward()
    # twice the pairs (0, 1) and (1, 2): entries d/9, differences 1/9 - 1/4 and 4/9 - 1/4, slopes 2 d / 9 of them
    first, second = 2 * 2 * (1 / 9 - 1 / 4) * 2 / 9 / 9, 2 * 2 * (4 / 9 - 1 / 4) * 4 / 9 / 9
    assert student.grad.flatten().tolist() == pytest.approx([-first, first - second, second])


def test_irg_transformations_fold_channels_and_average_places():
    first = torch.tensor([[[[1.0, 3.0]]], [[[0.0, 0.0]]]], dtype=torch.float64)            # 2 and 0 on average
    last = torch.tensor([[[[0.0]], [[2.0]]], [[[5.0]], [[1.0]]]], dtype=torch.float64)      # 1 and 3 over channels
    assert transformations(first, last).tolist() == pytest.approx([1 / 9, 1])
    assert irg_transformation((first, last), (7 * last, 7 * first)).item() == pytest.approx(0, abs=1e-12)


def test_irg_has_finite_gradients_where_all_are_equal():
    equal = torch.ones(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    (irg_edges(draw(3, 4), equal) + irg_transformation((draw(3, 2, 2, 2), draw(3, 4, 1, 1)), (equal, equal))).backward()
    assert torch.isfinite(equal.grad).all()


def test_irg_refuses_networks_of_one_stage(tmp_path):
    with pytest.raises(ConfigError, match="these networks have one; choose networks of two stages or more"):
        toy_experiment("irg", tmp_path, "student.widths=[6]", "teacher.widths=[6]")


def test_lp_of_known_neighbours():
    teacher, student = torch.tensor([[0.0, 0.0], [1, 0], [5, 0]]).double(), column(0, 2, 4)
    assert lp(teacher, student, neighbours=1, width=2.0).item() == pytest.approx(1.6178624, abs=1e-7)
    assert lp(teacher, 3 * student, neighbours=1, width=2.0).item() == pytest.approx(9 * 1.6178624, abs=1e-6)
    assert lp(teacher, column(7, 7, 7), neighbours=1).item() == pytest.approx(0, abs=1e-9)
    wide = sum(math.exp(-d / 6) * 4 for d in (1, 1, 16)) / 3  # their mean is 6
    assert lp(teacher, student, neighbours=1).item() == pytest.approx(wide)
    assert lp(teacher, student, neighbours=9).item() == pytest.approx(lp(teacher, student, neighbours=2).item())


def test_lp_sees_the_teachers_neighbours_alone():
    teacher, student = draw(6, 3), draw(6, 4, seed=1)
    assert lp(5 * teacher @ torch.linalg.qr(draw(3, 3, seed=2))[0] + 1, student, 2).item() == pytest.approx(
        lp(teacher, student, 2).item())


def test_mlkd_of_known_triangles():
    assert mlkd_relative(RIGHT, EVEN).item() == pytest.approx(0.5857864, abs=1e-7)
    assert mlkd_relative(RIGHT, EVEN, "mse").item() == pytest.approx(0.5857864**2 / 9, abs=1e-7)
    assert mlkd_relative(RIGHT, RIGHT @ TURN + 3).item() == pytest.approx(0, abs=1e-5)
    assert mlkd_relative(RIGHT, 2 * RIGHT).item() > 1  # distances as they are
    assert mlkd_absolute(RIGHT, RIGHT + torch.tensor([3.0, 4.0])).item() == pytest.approx(5)


@pytest.mark.parametrize("loss", [mlkd_relative, mlkd_absolute, lambda teacher, student: lp(teacher, student, 2), hkd_flow])
def test_mlkd_lp_and_hkd_flow_have_finite_gradients_where_they_are_zero(loss):
    same = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    loss(same.detach(), same).backward()
    assert torch.isfinite(same.grad).all()


def test_mlkd_compares_embeddings_of_one_size(tmp_path):
    with pytest.raises(ConfigError, match=r"embeddings of one size, but the student's has 8 numbers and the teacher's 12"):
        toy_experiment("mlkd", tmp_path, "method.absolute_weight=1")


def test_hkd_flow_of_known_vectors():
    parts = []
    for kernel in ("cosine", "student_t"):
        wanted, given = affinities(UNITS, kernel), affinities(SAME, kernel)
        parts.append(((wanted - given) * (wanted.log() - given.log())).mean().item())
    assert parts == pytest.approx([0.0577623, 0.0910746], abs=1e-6)
    assert hkd_flow(UNITS, SAME).item() == pytest.approx(sum(parts), abs=1e-6)
    assert hkd_flow(UNITS, UNITS @ TURN).item() == pytest.approx(0, abs=1e-9)
    assert math.isfinite(hkd_flow(UNITS, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()).item())  # a probability of 0


def test_hkd_flow_counts_stages_less_with_every_epoch():
    run = toy_run("hkd_flow", "offline", "method.auxiliary=null")
    (phase,) = run.method.phases(run)
    assert phase.loss is None
    run.networks.student.eval()
    batch, ratios = next(iter(run.stream.epoch(0, 1))), []
    for batch.epoch in (0, 2):
        terms = run.method.loss(run.networks, batch)
        ratios.append((terms["early flow"] / terms["flow"]).item())
    assert ratios[1] / ratios[0] == pytest.approx(0.49)  # 100 and 49


def test_hkd_flow_teaches_by_an_auxiliary_that_the_teacher_taught():
    run = toy_run("hkd_flow", "offline")
    student, (teacher,) = run.networks.student, run.networks.teachers
    first = state(teacher)
    distill(run)
    (auxiliary,) = run.networks.teachers
    assert auxiliary is not teacher
    assert auxiliary.model == "cnn"
    assert run.networks.student is student
    assert all(torch.equal(value, first[name]) for name, value in teacher.state_dict().items())


def test_hkd_flow_refuses_an_auxiliary_of_other_stages(tmp_path):
    with pytest.raises(ConfigError, match=r"the student has 2 and the teacher 3; method.auxiliary names"):
        toy_experiment("hkd_flow", tmp_path, "student.widths=[4,6]")
