"""Online ensemble compression: its widths, its one stem, its adapters, and what each term is."""

import pytest
import torch
import torch.nn.functional as F

from kdrun.config.schema import ConfigError
from kdrun.methods.losses import kd
from kdrun.models.factory import NetworkSpec
from kdrun.models.resnet import ResNet
from kdrun.models.roles import Networks, Role
from kdrun.training.players import own_parameters
from tests.methods.test_ffl import is_loaded_as_it_was_measured
from tests.toy import prepared, rows_of, toy_experiment, toy_run


def ready(*words):
    run = toy_run("oec", "online", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def test_widths_are_scaled_and_rounded():
    spec = NetworkSpec("one", {"widths": [16, 5], "depth": 8})
    assert spec.scaled(1.5).settings == {"widths": [24, 8], "depth": 8}
    assert spec.scaled(0.01).settings["widths"] == [1, 1]
    assert NetworkSpec("wide", {"width": 2}).scaled(1.5).settings == {"width": 3}
    assert NetworkSpec("mobile", {"width": 0.5}).scaled(1.5).settings == {"width": 0.75}
    with pytest.raises(ValueError, match="forest has no widths that could be scaled; choose one that has"):
        NetworkSpec("forest", {"depth": 3}).scaled(2.0)


def test_all_stand_on_one_stem_and_the_widest_shows_its_maps():
    run, batch = ready()
    wide, middle = run.networks.peers
    assert wide.network.stem is middle.network.stem is run.networks.student.network.stem
    assert [role.shapes.stages[-1][0] for role in (run.networks.student, wide, middle)] == [8, 16, 12]
    assert run.method.widest == 1
    terms = run.method.loss(run.networks, batch)
    answers = run.method.answers(run.networks, batch)
    ensemble = sum(answer.logits for answer in answers) / 3
    assert terms["kd"].item() == pytest.approx(0.15 * sum(kd(ensemble, one.logits, 2.0).item() for one in answers), rel=1e-4)
    apart = [F.mse_loss(adapter(own), target).item()
             for answer, adapters in zip((answers[0], answers[2]), run.method.adapters, strict=True)
             for adapter, own, target in zip(adapters, answer.stages, answers[1].stages, strict=True)]
    assert len(apart) == 6
    assert terms["maps"].item() == pytest.approx(0.15 * sum(apart), rel=1e-4)
    assert terms["ce"].item() == pytest.approx(0.7 * F.cross_entropy(answers[0].logits, batch.labels).item(), rel=1e-5)


@pytest.mark.parametrize("detached", [False, True])
def test_adapters_are_trained_from_the_start_and_the_widest_is_drawn_to_the_others_or_not(detached):
    run, batch = ready(f"method.detach_widest={str(detached).lower()}")
    trained = {id(weight) for weight in own_parameters(run.method.players(run.networks)["student"])}
    assert {id(weight) for weight in run.method.adapters.parameters()} <= trained
    terms = run.method.loss(run.networks, batch)
    widest = own_parameters([run.networks.peers[0].network.stages])
    found = torch.autograd.grad(terms["maps"], widest, allow_unused=True)
    assert all((one is None) == detached for one in found)


def test_every_network_and_the_ensemble_get_rows(tmp_path):
    rows = rows_of(toy_experiment("oec", tmp_path))
    assert list(rows) == ["baseline", "student", "peer 2", "peer 3", "ensemble"]
    assert rows["student"]["parameters"] == rows["baseline"]["parameters"] < rows["peer 3"]["parameters"]
    assert rows["peer 2"]["model"] == "cnn x2"
    assert rows["ensemble"]["parameters"] > rows["peer 2"]["parameters"]
    assert is_loaded_as_it_was_measured(tmp_path, rows["ensemble"])


def test_what_cannot_be_is_told():
    with pytest.raises(ConfigError, match="the student needs at least one other"):
        prepared(("oec", "method.others=[]"))
    run, _ = ready()
    student, wide = (Role(ResNet(depth=8, stem=stem, widths=[4, 4, 4], classes=10, channels=1), "student",
                          run.networks.student.task, "small") for stem in (4, 8))
    with pytest.raises(ValueError, match="the stem of small goes with its widths, so that others cannot share it; choose"):
        run.method.setup(Networks(student, peers=[wide]), run.data)
