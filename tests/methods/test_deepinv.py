"""DeepInversion: its terms in closed form, and who moves when."""

import math

import pytest
import torch
from torch import nn, tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.data_free.deepinv import competition, jensen_shannon, variation
from kdrun.methods.data_free.statistics import statistics, watched
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run

F64 = torch.float64
TEACHER, STUDENT = tensor([[0.0, 3.0, 0.0]], dtype=F64), tensor([[3.0, 0.0, 0.0]], dtype=F64)


@pytest.mark.parametrize("channels", [1, 4])
def test_statistics_of_a_constant(channels):
    layer = nn.BatchNorm2d(channels).double()
    maps = torch.full((5, channels, 3, 3), 2.0, dtype=F64)
    assert statistics(maps, layer).item() == pytest.approx(3 * math.sqrt(channels), abs=1e-6)


def test_statistics_use_the_biased_variance_of_what_comes_in():
    layer = nn.BatchNorm2d(1).double()
    maps = tensor([[[[0.0]]], [[[2.0]]]], dtype=F64)  # mean 1, biased variance 1
    with watched([layer], statistics) as found:
        layer.eval()(maps)
    assert [value.item() for value in found] == pytest.approx([1.0])
    layer(maps)
    assert len(found) == 1, "nobody is watched outside the block"


def test_variation():
    assert variation(torch.full((2, 3, 4, 4), 7.0, dtype=F64)).item() == 0
    spot = torch.zeros(1, 1, 3, 3, dtype=F64)
    spot[0, 0, 1, 1] = 1  # two differences of 1 in each direction
    assert variation(spot).item() == pytest.approx(4 * math.sqrt(2), abs=1e-6)


@pytest.mark.parametrize(("form", "wanted"), [("release", 0.0947), ("textbook", 0.0874)])
def test_divergence_of_known_logits(form, wanted):
    assert jensen_shannon(TEACHER, STUDENT, 3.0, form).item() == pytest.approx(wanted, abs=5e-5)
    assert competition(TEACHER, STUDENT, 3.0, form).item() == pytest.approx(1 - wanted, abs=5e-5)
    assert competition(TEACHER, TEACHER, 3.0, form).item() == pytest.approx(1, abs=1e-12)


def test_the_textbook_form_is_bounded_by_ln_2():
    assert jensen_shannon(1000 * TEACHER, 1000 * STUDENT, 3.0, "textbook").item() == pytest.approx(math.log(2), abs=1e-9)


def test_rounds_continue_one_training_and_inversions_move_no_network():
    run = toy_run("deepinv", "offline", "method.competition_weight=10")
    phases, inner, ends, terms = run.method.phases, run.method.step, [], []

    def watched_step(networks, batch):
        assert not networks.student.network.training
        for player, named in inner(networks, batch):
            terms.append(set(named))
            yield player, named

    def watched_phases(run):
        for phase in phases(run):
            before, pictures = state(run.networks.student), run.method.images.clone()
            yield phase
            now = state(run.networks.student)
            ends.append((phase.name, phase.epochs, all(torch.equal(before[name], now[name]) for name in now),
                         torch.equal(pictures, run.method.images)))

    run.method.phases, run.method.step = watched_phases, watched_step
    distill(run)
    assert ends == [("inversion", 1, True, False), ("distill", 1, False, True)] * 2
    plain = {"label", "variation", "statistics"}
    assert terms == [plain] * 3 + [plain | {"competition"}] * 3  # the first round has no student worth asking
    assert run.trained == {"inversion": 2, "distill": 2}
    assert bool((run.method.images.flatten(1).abs().sum(dim=1) > 0).all())


@pytest.mark.parametrize("clip", [True, False])
def test_pixels_are_clipped_to_what_pictures_can_have(clip):
    run = toy_run("deepinv", "offline", f"method.clip={clip}", "method.rounds=1")
    distill(run)
    low, high = float(run.method.images.min()), float(run.method.images.max())
    assert (low, high) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6)) if clip else low < -0.1 and high > 1.1


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"method\.rounds=2 or more"):
        toy_experiment("deepinv", tmp_path, "method.rounds=1", "method.competition_weight=1")
    run = toy_run("deepinv", "offline")
    run.networks.teachers[0].network = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="has none; choose another teacher"):
        run.method.setup(run.networks, run.data)
