"""Clusters, and a student that learns them before labels."""

import pytest
import torch
import torch.nn.functional as F

from kdrun.config.schema import ConfigError
from kdrun.methods.clustering import kmeans, purity
from kdrun.training.loop import distill
from tests.toy import prepared, state, toy_run


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_three_blobs_are_found():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    labels = torch.arange(60) % 3
    points = centres[labels] + torch.randn(60, 2, generator=draws())
    clusters, found = kmeans(points, 3, 50, draws(1))
    assert purity(clusters, labels) == 1
    assert all(torch.allclose(found[cluster], points[clusters == cluster].double().mean(0)) for cluster in range(3))
    assert torch.equal(kmeans(points, 3, 50, draws(1))[0], clusters)


def test_no_cluster_stays_empty():
    points = torch.tensor([[0.0]] * 5 + [[1.0], [2.0]])
    clusters, _ = kmeans(points, 5, 20, draws())  # three places, five clusters
    assert torch.bincount(clusters, minlength=5).min() >= 1
    with pytest.raises(ValueError, match="8 clusters of 7 samples"):
        kmeans(points, 8, 20, draws())


def test_names_of_clusters_do_not_matter():
    logits, clusters, order = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([2, 0, 3, 1])
    assert torch.allclose(F.cross_entropy(logits, clusters), F.cross_entropy(logits[:, order.argsort()], order[clusters]))


def test_labels_come_last_and_the_probe_keeps_what_was_learned_before():
    run = toy_run("ss_cluster", "self")
    seen = {}
    for phase in run.method.phases(run):
        seen[phase.name] = (phase.evaluate, state(run.networks.student))
    assert list(seen) == ["pretext", "clusters", "probe", "fine-tune"]
    assert run.method.clusters_of.shape == (28,)
    distill(run)
    assert list(run.method.trained_networks(run.networks)) == ["student", "probe"]
    rows = {(row[1], row[4]) for row in run.history if row[3] == "train"}
    assert rows == {("pretext", "turned"), ("clusters", "cluster"), ("probe", "ce probe"), ("fine-tune", "ce")}
    probe = run.method.trained_networks(run.networks)["probe"]
    x = torch.randn(3, *run.data.shape)
    probe.eval()
    assert torch.equal(probe(x).logits, run.method.probe(run.method.trunk.network(x).embedding))
    assert not torch.equal(run.method.trunk.network.head.weight, run.networks.student.network.head.weight)


@pytest.mark.parametrize(("targets", "phases"), [("pixels", 3), ("random", 3), ("pretext", 3)])
def test_what_to_compare_with(targets, phases):
    run = toy_run("ss_cluster", "self", f"method.targets={targets}", "recipe.epochs=1")
    distill(run)
    assert len(run.trained) == phases


def test_more_clusters_than_pictures():
    with pytest.raises(ConfigError, match=r"method\.clusters is 30, and there are 28 pictures; wanted at most so many"):
        prepared(("ss_cluster", "method.clusters=30"))
