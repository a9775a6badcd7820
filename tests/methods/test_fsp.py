"""FSP: the flow matrix, and who learns when."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.layers import fsp, fsp_matrix
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run


def test_flow_of_known_maps():
    first = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64)
    last = torch.tensor([[[[1.0, 1.0]], [[0.0, 2.0]]]], dtype=torch.float64)
    assert torch.allclose(fsp_matrix(first, last, "max"), torch.tensor([[[1.5, 2.0]]], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(fsp_matrix(3 * first, last, "max"), 3 * fsp_matrix(first, last, "max"))
    assert torch.allclose(fsp_matrix(first.flip(-1), last.flip(-1), "max"), fsp_matrix(first, last, "max"))


def test_flow_pools_the_larger_map():
    first = torch.tensor([[[[1.0, 3.0], [2.0, 6.0]]]], dtype=torch.float64)
    last = torch.tensor([[[[2.0]]]], dtype=torch.float64)
    assert fsp_matrix(first, last, "max").item() == pytest.approx(12)
    assert fsp_matrix(first, last, "average").item() == pytest.approx(6)


def test_distance_averages_or_adds():
    wanted, given = torch.zeros(2, 2, 3, dtype=torch.float64), torch.full((2, 2, 3), 2.0, dtype=torch.float64)
    assert fsp([wanted, wanted], [given, wanted], "mean").item() == pytest.approx(4)
    assert fsp([wanted, wanted], [given, wanted], "sum").item() == pytest.approx(24)
    assert fsp([given], [given]).item() == 0


def test_the_classifier_waits_for_the_second_phase():
    run = toy_run("fsp", "offline", "recipe.epochs=1")
    heads = []
    phases = run.method.phases

    def watched(run):
        first = state(run.networks.student.network)
        for phase in phases(run):
            yield phase
            now = state(run.networks.student.network)
            heads.append((torch.equal(first["head.weight"], now["head.weight"]),
                          torch.equal(first["stages.0.0.weight"], now["stages.0.0.weight"])))

    run.method.phases = watched
    distill(run)
    assert heads == [(True, False), (False, False)]


def test_other_channels_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the student has \[1, 6, 8, 9\] and the teacher \[1, 6, 8, 12\]"):
        toy_experiment("fsp", tmp_path, "student.widths=[6,8,9]")


@pytest.mark.parametrize(("projection", "learns"), [("learned", True), ("fixed", False)])
def test_other_channels_can_be_projected(projection, learns):
    run = toy_run("fsp", "offline", "student.widths=[4,8,20]", f"method.projection={projection}", "method.reduction=mean")
    run.method.setup(run.networks, run.data)
    teacher, student = run.method.flows(run.networks, next(run.stream.epoch(0, 1)))
    sizes = [(1, 6), (6, 8), (8, 12)] if learns else [(1, 4), (4, 8), (8, 12)]
    assert [one.shape[1:] for one in teacher] == [one.shape[1:] for one in student] == sizes
    assert bool(list(run.method.parameters())) == learns
    rows = [module.matrix for module in run.method.modules() if hasattr(module, "matrix")]
    assert all(torch.allclose(one @ one.T, torch.eye(len(one)), atol=1e-5) for one in rows)
    assert len(rows) == (0 if learns else 2)


def test_equal_channels_are_compared_as_they_are():
    plain, asked = (toy_run("fsp", "offline", f"method.projection={projection}") for projection in ("none", "learned"))
    values = []
    for run in (plain, asked):
        run.method.setup(run.networks, run.data)
        assert not list(run.method.parameters())
        values.append(run.method.match(run.networks, next(run.stream.epoch(0, 1)))["fsp"].item())
    assert values[0] == values[1]
