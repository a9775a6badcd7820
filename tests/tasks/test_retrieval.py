"""The retrieval task: the margin on numbers that can be computed by hand, the head, the measures, what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdrun.data.samples import Samples, Source
from kdrun.models.cosine import CosineHead
from kdrun.models.output import ModelOutput
from kdrun.models.plain import CNN
from kdrun.tasks.retrieval import Retrieval, arcface
from tests.conftest import pictures_of

SETTINGS = {"head": "arcface", "scale": 16.0, "margin": 0.2, "far": 0.25}


def task_of(**changes) -> Retrieval:
    return Retrieval(("a", "b"), (1, 8, 8), SETTINGS | changes)


def test_a_margin_makes_the_true_class_harder_by_an_angle():
    logits, labels = 16 * torch.tensor([[0.5, 0.0]]), torch.tensor([0])  # 60 and 90 degrees
    expected = math.log(1 + math.exp(-16 * math.cos(math.pi / 3 + 0.2)))
    assert arcface(logits, labels, 16.0, 0.2).item() == pytest.approx(expected, rel=1e-5)
    assert arcface(logits, labels, 16.0, 0.0).item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)


def test_a_margin_never_makes_it_easier_and_its_slope_is_finite():
    cosine = torch.linspace(-1, 1, 201, dtype=torch.float64)
    logits = (16 * torch.stack([cosine, torch.zeros_like(cosine)], dim=1)).requires_grad_()
    labels = torch.zeros(201, dtype=torch.long)
    losses = torch.stack([arcface(row[None], label[None], 16.0, 0.2) for row, label in zip(logits, labels, strict=True)])
    assert bool((losses.diff() <= 0).all())
    assert bool(torch.isfinite(torch.autograd.grad(losses.sum(), logits)[0]).all())
    assert bool((losses >= F.cross_entropy(logits, labels, reduction="none") - 1e-9).all())


def test_the_head_sees_directions_alone():
    task, network = task_of(), CNN(widths=[4, 8], classes=2, channels=1)
    assert task_of(head="linear").prepare(network) is network
    assert isinstance(task.prepare(network).head, CosineHead)
    output = network(torch.rand(3, 1, 8, 8))
    assert float(output.logits.detach().abs().max()) <= 16 + 1e-4
    assert torch.allclose(network.head(5 * output.embedding), output.logits, atol=1e-5)
    assert torch.allclose(network.fork(1).head(output.embedding).abs().clamp_min(16), torch.tensor(16.0), atol=1e-4)


def test_a_network_without_a_linear_classifier_is_refused():
    with pytest.raises(ValueError, match=r"Conv2d has no linear layer as its classifier.*dataset\.head=linear"):
        task_of().prepare(torch.nn.Conv2d(1, 1, 1))


def test_measures_of_embeddings():
    embeddings = torch.tensor([(1, 0), (.9, .1), (0, 1), (.1, .9), (.8, .6)])
    samples = Samples(torch.zeros(5, 8, 8, 1), torch.tensor([7, 7, 9, 9, 9]))
    assert task_of().measures(ModelOutput(embeddings, embeddings), samples)["recall_at_1"] == pytest.approx(0.8)
    perfect = ModelOutput(embeddings, F.one_hot(samples.labels).float())
    assert task_of().measures(perfect, samples) == {"recall_at_1": 1, "map": 1, "roc_auc": 1, "tar_at_far": 1, "eer": 0}


def test_classes_of_the_test_are_any_but_have_to_make_pairs():
    train, test = pictures_of(3, 1, classes=2), pictures_of(3, 2, classes=2)
    unseen = Samples(test.inputs, test.labels + 7)
    assert task_of().problems(Source(train, unseen, ("a", "b"))) == []
    alone = Samples(test.inputs, torch.full_like(test.labels, 7))
    assert "make no pairs to compare" in task_of().problems(Source(train, alone, ("a", "b")))[0]
    found = task_of(far=0.1).problems(Source(train, unseen, ("a", "b")))
    assert found == ["far is 0.1, but the test pictures make 9 pairs of two classes; wanted at least 0.111111, or 0"]
    assert "labels run from 7 to 8" in task_of().problems(Source(unseen, test, ("a", "b")))[0]
