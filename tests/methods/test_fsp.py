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
