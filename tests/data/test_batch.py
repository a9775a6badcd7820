"""A batch knows whether it is still as its stream made it."""

from dataclasses import replace

import torch

from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream
from kdrun.data.paired_views import Beside


def stream_of(data):
    return data.stream(batch_size=16, seed=1, device=torch.device("cpu"))


def test_only_batches_as_the_stream_made_them_are_its_own(data):
    def batch():
        return next(stream_of(data).epoch(3, 5))

    own = batch()
    assert own.original is not None
    assert (own.original.epoch, own.original.step) == (3, 0)
    assert replace(own, y=None).original is not None
    assert replace(own, x=own.x.clone()).original is None
    assert Batch(own.x).original is None
    changed = batch()
    changed.x[0] += 1
    assert changed.original is None
    watched = batch()
    watched.x.requires_grad_()
    assert watched.original is None


def test_the_batches_of_other_streams_are_not_the_streams_own(data):
    stream = stream_of(data)
    assert next(TaskStream(stream, torch.arange(10), slice(0, 2)).epoch(0, 1)).original is None
    beside = next(Beside(stream, "again").epoch(0, 1))
    assert beside.original is not None  # a further view changes nothing in what is there
    first = next(stream.epoch(0, 1))
    seen = Batch(first.x, views={"teacher": first.x.clone()}).signed(stream)
    assert seen.original is not None
    seen.views["teacher"] = first.x
    assert seen.original is None
