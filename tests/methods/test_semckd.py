"""SemCKD: the attention over layers, and batches that it cannot read."""

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.losses.cross_layer import semantic_calibration
from tests.toy import toy_run


def ready(*words):
    run = toy_run("semckd", "offline", *words)
    next(iter(run.method.phases(run)))
    batch = next(run.stream.epoch(0, 1))
    return run, batch, [maps.detach() for maps in run.networks.teacher(batch).stages], run.networks.student(batch).stages


def test_shares_add_up_and_weigh_the_distances():
    run, _, wanted, given = ready("student.widths=[4,6]")  # two stages look at three
    shares = run.method.shares(wanted, given)
    assert shares.shape == (16, 2, 3)
    assert torch.allclose(shares.sum(dim=2), torch.ones(16, 2))
    apart = run.method.distances(wanted, given)
    assert semantic_calibration(apart, shares).item() == pytest.approx(float((shares * apart).sum()) / (16 * 2), rel=1e-5)


def test_a_single_layer_has_all_the_attention():
    run, _, wanted, given = ready("teacher.widths=[6]")
    shares, apart = run.method.shares(wanted, given), run.method.distances(wanted, given)
    assert torch.equal(shares, torch.ones(16, 3, 1))
    assert semantic_calibration(apart, shares).item() == pytest.approx(float(apart.mean()), rel=1e-5)


def test_the_attention_learns():
    run, batch, *_ = ready()
    run.method.loss(run.networks, batch)["semckd"].backward()
    assert all(part.layers[0].weight.grad.abs().sum() > 0 for part in (*run.method.queries, *run.method.keys))


def test_other_batches_are_refused():
    run, batch, *_ = ready()
    with pytest.raises(ValueError, match="built for batches of 16 samples, and this one has 5"):
        run.method.loss(run.networks, Batch(batch.x[:5], batch.y[:5]))
