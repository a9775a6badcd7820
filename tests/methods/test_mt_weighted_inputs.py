"""Weighted teachers that see samples in ways of their own."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.experiment import Experiment
from kdrun.methods.losses import mixture
from kdrun.methods.multi_teacher.mt_avg import AveragedTeachers
from kdrun.methods.multi_teacher.mt_weighted_inputs import WeightedTeachers
from kdrun.methods.response.kd import KD
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from kdrun.utils.progress import Progress
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import toy_run, toy_settings


def weighted(shares, weights="uniform"):
    method = WeightedTeachers(weights=weights, temperature=4.0, ce_weight=0.1, kd_weight=0.9)
    method.shares = torch.tensor(shares)
    return method


def test_a_weighted_mean_of_probabilities():
    sure, unsure = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    wanted = mixture([sure, unsure], 2.0, torch.tensor([0.25, 0.75], dtype=torch.float64)).div(2).softmax(dim=1)
    assert wanted[0, 0].item() == pytest.approx(0.25 * 0.731059 + 0.75 * 0.5, abs=1e-6)
    assert torch.equal(mixture([sure, unsure], 2.0, torch.tensor([1.0, 0.0], dtype=torch.float64)).div(2).softmax(dim=1),
                       sure.div(2).softmax(dim=1))


def test_all_weight_on_one_teacher_is_hintons_method_and_equal_weights_the_averaged_one(factory, data):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT))
    networks = Networks(nets.student().eval(), [frozen(teacher) for teacher in nets.untrained_teachers()])
    batch = Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)
    first = Networks(networks.student, networks.teachers[:1])
    kd = KD(temperature=4.0, ce_weight=0.1, kd_weight=0.9, form="zhu").loss(first, batch)
    averaged = AveragedTeachers(mean="prob", temperature=4.0, ce_weight=0.1, kd_weight=0.9).loss(networks, batch)
    for made, wanted in ((weighted([1.0, 0.0]), kd), (weighted([0.5, 0.5]), averaged)):
        terms = made.loss(networks, batch)
        assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(
            {name: float(term.detach()) for name, term in wanted.items()}, rel=1e-4)


def test_each_teacher_sees_the_sample_in_its_own_way_in_the_same_crop():
    run = toy_run("mt_weighted_inputs", "offline")
    batch = next(iter(run.stream.epoch(0, 1)))
    first, second = (teacher.inputs(batch) for teacher in run.networks.teachers)
    left = run.data.views["teacher"].normalise
    whole = batch.x * run.data.normalise.std[:, None, None] + run.data.normalise.mean[:, None, None]
    half = whole[..., :whole.shape[-1] // 2]
    assert torch.allclose(first, (half - left.mean[:, None, None]) / left.std[:, None, None], atol=1e-5)
    assert second.shape == batch.x.shape
    assert not torch.allclose(second, batch.x)


def test_weights_by_accuracy_are_measured_on_what_each_teacher_sees():
    run = toy_run("mt_weighted_inputs", "offline", "method.weights=accuracy", "recipe.epochs=1")
    asked = []
    run.data.task.measures = lambda found, split: asked.append(len(found.logits)) or {"accuracy": len(asked) / 4}
    shares = run.method.measured(run.networks, run.data)
    assert shares == [0.25, 0.5]
    assert asked == [len(run.data.validation)] * 2


@pytest.mark.parametrize(("words", "wrong"), [
    (("method.weights=[1,2,3]",), "has 3 numbers, but there are 2 teachers"),
    (("method.weights=[0,0]",), "at least one must be above"),
    (("dataset.teacher_sees=[left,edges,picture]",), "names 3 modalities")])
def test_what_does_not_fit_is_refused_before_anything_is_trained(words, wrong):
    with pytest.raises(ConfigError, match=wrong):
        Experiment.prepare(toy_settings("mt_weighted_inputs", *words), Progress(None))


def test_given_weights_are_divided_by_their_sum():
    run = toy_run("mt_weighted_inputs", "offline", "method.weights=[1,3]", "recipe.epochs=1")
    distill(run)
    (first, second) = run.method.extra_tables(run)["teacher_weights"]
    assert (first["weight"], second["weight"]) == (0.25, 0.75)
