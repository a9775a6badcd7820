"""Attention transfer by gradients of the label loss."""

from types import SimpleNamespace

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.attention.at import AT
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks
from kdrun.tasks.classification import Classification
from tests.toy import toy_experiment, toy_run


def linear(weights):
    """A network of two pixels whose second logit is always 0."""
    def answer(batch):
        logit = batch.x.flatten(1) @ torch.tensor(weights, dtype=torch.float64)
        return ModelOutput(torch.stack([logit, torch.zeros_like(logit)], dim=1), batch.x.flatten(1))
    return answer


def test_gradients_of_linear_networks():
    method = AT(by="gradient", power=2.0, weight=0.0, reference=None, scaling="none", ce_weight=1.0, gradient_weight=6.0,
                mode="code")
    method.task = Classification(("one", "two"), (1, 1, 2))
    batch = Batch(torch.zeros(3, 1, 1, 2, dtype=torch.float64), torch.tensor([0, 0, 1]))
    networks: Networks = SimpleNamespace(student=linear([4.0, 0.0]), teacher=linear([0.0, 3.0]))
    # both are unsure of everything: each gradient is half of its weights, and half the distance of (2, 0) and (0, 1.5) is 1.25
    assert method.loss(networks, batch)["at"].item() == pytest.approx(6 * 1.25)
    assert method.loss(SimpleNamespace(student=linear([1.0, 2.0]), teacher=linear([1.0, 2.0])), batch)["at"].item() < 1e-5


def test_the_student_learns_and_the_pictures_do_not():
    run = toy_run("at", "offline", "method.by=gradient")
    run.method.setup(run.networks, run.data)
    batch = next(run.stream.epoch(0, 1))
    run.method.loss(run.networks, batch)["at"].backward()
    assert run.networks.student.network.stages[0][0].weight.grad.abs().sum() > 0
    assert not batch.x.requires_grad


def test_another_modality_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="by=gradient compares gradients with respect to the same pictures"):
        toy_experiment("at", tmp_path, "method.by=gradient", "dataset=pair")
