"""Born-again networks: who teaches whom, and all of them together."""

import pytest
import torch

from kdrun.methods.losses import mixture
from kdrun.methods.staged.ban import Ensemble
from kdrun.training.loop import distill
from tests.toy import rows_of, toy_experiment, toy_run


@pytest.mark.parametrize(("scheme", "generations", "trained"), [("self", 1, 2), ("self", 3, 4), ("offline", 2, 2)])
def test_each_generation_starts_anew_and_is_taught_by_the_one_before(scheme, generations, trained):
    run = toy_run("ban", scheme, f"method.generations={generations}")
    first = run.networks.student
    distill(run)
    assert len(run.trained) == trained
    assert run.networks.student is not first
    assert run.networks.teacher.name == f"generation {generations - 1}"


def test_the_ensemble_is_the_mean_of_the_taught_generations(data):
    run = toy_run("ban", "self", "method.generations=3")
    distill(run)
    trained_networks = run.method.trained_networks(run.networks)
    assert list(trained_networks) == ["student", "ensemble"]
    ensemble = trained_networks["ensemble"]
    assert isinstance(ensemble, Ensemble)
    assert len(ensemble.members) == 3  # without generation 0, which nobody taught
    assert ensemble.members[1].name == run.networks.teacher.name == "generation 2"
    pictures = torch.randn(5, *run.data.shape)
    ensemble.eval()
    with torch.no_grad():
        answers = [member.network(pictures).logits for member in ensemble.members]
        together = ensemble(pictures)
    mean = torch.stack([answer.softmax(1) for answer in answers]).mean(0)
    assert torch.allclose(together.logits.exp(), mean, atol=1e-6)
    assert torch.allclose(together.logits, mixture(answers), atol=1e-6)
    assert len({str(answer.tolist()) for answer in answers}) == 3


def test_one_generation_is_no_ensemble():
    run = toy_run("ban", "self", "method.generations=1")
    distill(run)
    assert list(run.method.trained_networks(run.networks)) == ["student"]


def test_the_ensemble_has_a_row_and_is_as_large_as_its_members(tmp_path):
    rows = rows_of(toy_experiment("ban", tmp_path, "method.generations=2"))
    student, ensemble = rows["student"], rows["ensemble"]
    assert ensemble["model"] == "2 cnn"
    assert ensemble["parameters"] == 2 * student["parameters"]
    assert ensemble["flops"] == pytest.approx(2 * student["flops"], rel=0.01)
    assert ensemble["improvement_pct"] is not None
