"""Data distillation: views and their mean, which labels are kept, and what is learned of them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.self_taught.data_distill import like_labelled, transformed
from kdrun.models.output import ModelOutput
from kdrun.training.loop import distill
from tests.toy import toy_run


def test_views_are_moved_mirrored_and_enlarged():
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.allclose(transformed(picture), picture, atol=1e-5)
    assert torch.allclose(transformed(picture, down=1)[..., 1:, :], picture[..., :-1, :], atol=1e-5)
    assert torch.allclose(transformed(picture, right=-1)[..., :-1], picture[..., 1:], atol=1e-5)
    assert torch.allclose(transformed(picture, mirrored=True), picture.flip(3), atol=1e-5)
    assert torch.allclose(transformed(picture, 2.0).mean(), picture.mean(), atol=1e-5)
    assert transformed(picture, 2.0).std() < picture.std()


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, [0, 1, 2, 3]), (0.75, [3]), (0.9, [0, 1, 2, 3])])
def test_the_mean_of_views_labels_a_sample(threshold, kept):
    run = toy_run("data_distill", "offline", f"method.threshold={threshold}", "method.scales=[1,2]", "method.shift=0")
    answers = [tensor([[0.9, 0.1]] * 4), tensor([[0.5, 0.5]] * 3 + [[0.7, 0.3]])]  # of the pictures, and of them enlarged
    asked = []

    def answer(pictures, fresh):
        asked.append(pictures)
        return ModelOutput(answers[len(asked) - 1].log(), torch.empty(0))

    run.networks.teacher.forward = answer
    run.data = replace(run.data, pool=run.data.pool[torch.arange(4)])
    assert run.method.annotated(run).tolist() == kept  # their labels have 0.7, 0.7, 0.7 and 0.8
    assert run.method.targets.tolist() == [0] * len(kept)


def test_the_threshold_leaves_classes_as_frequent_as_wanted():
    confidence, labels = tensor([0.9, 0.8, 0.7, 0.6, 0.5]), tensor([0, 1, 1, 0, 0])
    even = tensor([0.5, 0.5])
    assert like_labelled(confidence, labels, even, least=0.1) == pytest.approx(0.6)  # two of each; so have the first two
    assert like_labelled(confidence, labels, tensor([0.6, 0.4]), least=0.1) == pytest.approx(0.5)
    assert like_labelled(confidence, labels, even, least=1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_last_training_is_longer_and_of_both(labels):
    run = toy_run("data_distill", "self", f"method.labels={labels}", "method.least_kept=0.9", "method.pool_share=0.5")
    seen, inner = [], run.method.loss

    def watched(networks, batch):
        seen.append((len(batch), len(batch.pool)))
        terms = inner(networks, batch)
        assert list(terms) == ["ce", "pool"]
        return terms

    run.method.loss = watched
    distill(run)
    assert run.trained == {"generation 0": 2, "retrain": 4}
    assert set(seen) == {(16, 16)}
    assert len(run.method.targets) >= math.ceil(0.9 * len(run.data.pool))
    assert run.method.targets.ndim == (2 if labels == "soft" else 1)


def test_it_needs_samples_without_labels():
    with pytest.raises(ConfigError, match=r"give dataset\.labelled=80"):
        toy_run("data_distill", "self", "dataset.labelled=null")
