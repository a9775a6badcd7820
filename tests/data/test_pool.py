"""Training samples whose labels nobody sees."""

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.data.pool import BesidePool, Pool
from kdrun.methods.base import Run
from tests.conftest import tiny_data
from tests.toy import prepared, toy_run

CPU = torch.device("cpu")
FEW = tiny_data(labelled=20)


def pool_of(steps: int, batch_size: int = 16) -> Pool:
    return Pool(FEW.stream(batch_size=batch_size, seed=3, device=CPU, samples=FEW.pool), steps)


def test_the_labelled_ones_are_those_of_a_limit_and_the_others_keep_their_pictures_alone(data):
    limited = tiny_data(train_limit=20)
    assert FEW.pool is not None
    assert FEW.train.digest == limited.train.digest
    assert torch.equal(FEW.normalise.mean, limited.normalise.mean)  # so the baseline is the same too
    assert limited.pool is None
    assert torch.bincount(FEW.train.labels).tolist() == [5] * 4
    assert FEW.pool.labels.tolist() == [-1] * 76
    together = torch.cat([FEW.train.inputs, FEW.pool.inputs]).flatten(1).tolist()
    assert sorted(together) == sorted(data.train.inputs.flatten(1).tolist())
    assert len({FEW.digest, limited.digest, data.digest}) == 3
    assert FEW.test.digest == data.test.digest


def test_a_limit_comes_first():
    both = tiny_data(train_limit=40, labelled=20)
    assert (len(both.train), len(both.pool)) == (20, 20)
    limited = tiny_data(train_limit=40).train.inputs.flatten(1).tolist()
    assert sorted(torch.cat([both.train.inputs, both.pool.inputs]).flatten(1).tolist()) == sorted(limited)


@pytest.mark.parametrize("labelled", [3, 96, 200])
def test_too_few_and_too_many_labels(labelled):
    with pytest.raises(ValueError, match=f"labelled is {labelled}, but there are 96 .* of 4 classes; wanted 4 to 95"):
        tiny_data(labelled=labelled)


def test_every_sample_comes_once_a_turn_whatever_an_epoch_is():
    pool = pool_of(steps=3)  # of 76 samples four whole batches, so a turn is an epoch and a third
    seen = [batch for epoch in range(4) for batch in pool.epoch(epoch, 4)]
    assert len(seen) == 12
    for turn in range(3):
        rows = torch.cat([batch.rows for batch in seen[4 * turn:4 * turn + 4]])
        assert len(rows.unique()) == 64
    assert [(batch.epoch, batch.epochs, batch.step) for batch in seen[2:4]] == [(0, 4, 2), (1, 4, 0)]
    assert all(batch.y is None and not batch.has_labels for batch in seen)


def test_any_step_can_be_made_again():
    whole = list(pool_of(steps=3).epoch(2, 4))
    again = list(pool_of(steps=3).epoch(2, 4, first=1))
    assert all(torch.equal(one.tensor, other.tensor) for one, other in zip(whole[1:], again, strict=True))
    rows = pool_of(steps=3).rows(2, 1)
    assert torch.equal(rows, whole[1].rows)
    assert not torch.equal(pool_of(steps=3).batch(rows, 2, 4, 1, "second view").tensor, whole[1].tensor)


def test_a_labelled_batch_has_one_of_the_pool_beside_it():
    stream = FEW.stream(batch_size=10, seed=3, device=CPU)
    batches = list(BesidePool(stream, pool_of(steps=2)).epoch(1, 4))
    plain = list(stream.epoch(1, 4))
    assert all(torch.equal(one.tensor, other.tensor) for one, other in zip(batches, plain, strict=True))
    assert all(isinstance(batch.pool, Batch) and len(batch.pool) == 16 and batch.pool.y is None for batch in batches)
    assert all(batch.original is not None for batch in batches)  # a teacher's answers can still be remembered


def test_who_needs_a_pool_and_finds_none_is_refused_in_a_line(data):
    run = toy_run("kd", "offline")
    with pytest.raises(ValueError, match=r"samples without labels, and here all have theirs; give dataset\.labelled=80"):
        run.pool(8, 2)


def test_a_run_draws_from_rows_of_its_pool():
    run: Run = toy_run("kd", "offline", "dataset.labelled=20")
    pool = run.pool(4, 2, rows=torch.tensor([5, 5, 5, 5, 7]))
    (first, second) = pool.epoch(0, 1)
    assert run.uses_pool
    assert set(torch.cat([first.rows, second.rows]).tolist()) <= set(range(5))  # they count the rows that were given


def test_whoever_does_not_use_it_is_told():
    lines = []
    toy = prepared(("kd", "dataset.labelled=20"))
    toy.screen.note = lines.append
    toy.rehearse()
    assert "method=kd does not use the 28 training samples without labels (dataset.labelled=20)" in lines
