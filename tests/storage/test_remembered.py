"""Answers without a training around them: which batches they are for, how they read, and jobs that fill them together."""

import threading
from dataclasses import replace

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.models.roles import frozen
from kdrun.storage.remembered import Remembered
from kdrun.storage.teacher_cache import Answers, Stored, digest_of_weights
from tests.conftest import tiny_data, tiny_networks


@pytest.fixture
def teacher(factory, tmp_path):
    """A frozen teacher that remembers."""
    role = frozen(next(iter(factory().untrained_teachers())))
    role.memory = Answers(tmp_path, "teacher", "tiny", {}, half=False, most=1e9, ahead=True, note=print)
    return role


def stream_of(data: Data, **changes):
    return data.stream(**({"batch_size": 16, "seed": 1, "device": torch.device("cpu")} | changes))


def test_other_pictures_are_never_answered_from_memory(teacher, data):
    stream = stream_of(data)
    for epoch in range(2):
        for batch in stream.epoch(epoch, 2):
            teacher(batch).logits  # noqa: B018  # fills
    batch = next(stream.epoch(0, 2))
    assert isinstance(teacher(batch), Remembered)
    mixed = replace(batch, x=batch.x.flip(0))
    for asked in (mixed, mixed.x, batch.x, next(stream_of(data).epoch(0, 2))):  # the last: a stream this run does not know
        assert not isinstance(teacher(asked), Remembered)
        pictures = asked.x if isinstance(asked, Batch) else asked
        assert torch.equal(teacher(asked).logits, teacher.network(pictures).logits)


def test_a_remembered_answer_reads_like_an_output(teacher, data):
    stream = stream_of(data)
    for batch in stream.epoch(0, 1):
        answer = teacher(batch)
        assert answer.logits.shape == (16, 4)
        assert answer.embedding.shape == (16, 16)
        assert answer.detach() is answer
    batch = next(stream.epoch(0, 1))
    known, whole = teacher(batch), teacher.network(batch.x)
    passes = []
    teacher.network.register_forward_hook(lambda *_: passes.append(1))
    assert torch.equal(known.logits, whole.logits)
    assert torch.equal(known.embedding, whole.embedding)
    assert passes == []
    assert all(torch.equal(one, other) for one, other in zip(known.stages, whole.stages, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(known.preacts, whole.preacts, strict=True))
    assert torch.equal(known.stem, whole.stem)
    assert all(torch.equal(one, other) for one, other in zip(known.map(torch.clone).stages, whole.stages, strict=True))
    assert torch.equal(known.replace(logits=whole.logits + 1).logits, whole.logits + 1)
    assert passes == [1]


def test_a_row_has_memory_of_its_own_in_the_layout_of_the_network(tmp_path):
    rows = torch.arange(24.0).view(2, 3, 4)
    Stored(rows, (1, 3), 1.5).write(tmp_path / "x")
    stored = Stored.read(tmp_path / "x", 2, torch.device("cpu"))
    row = stored.row(1)
    assert torch.equal(row, rows[1])
    assert row.stride() == (1, 3)
    assert row.data_ptr() % 64 == 0
    row.zero_()
    assert torch.equal(stored.row(1), rows[1])
    assert stored.seconds == 1.5


def test_half_precision_refuses_what_it_cannot_hold(teacher, data):
    teacher.memory.half = True
    with torch.no_grad():
        teacher.network.head.bias.fill_(1e5)
    with pytest.raises(ValueError, match=r"^teacher.remember=half: the teacher answers numbers above 65504"):
        teacher(next(stream_of(data).epoch(0, 1))).logits  # noqa: B018


def test_who_wants_to_stop_waits_for_no_filling(teacher, data, tmp_path, monkeypatch):
    monkeypatch.setattr("kdrun.utils.signals.pending", lambda: True)
    for batch in stream_of(data).epoch(0, 1):
        assert torch.equal(teacher(batch).logits, teacher.network(batch.x).logits)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_the_weights_are_in_the_name_whatever_they_are_called(factory):
    one, other = factory(), factory(seed=2)
    (first,), (second,), (again,) = (list(each.untrained_teachers()) for each in (one, other, one))
    assert digest_of_weights(first.network) == digest_of_weights(again.network) != digest_of_weights(second.network)
    digest = digest_of_weights(first.network)
    next(buffer for name, buffer in first.network.named_buffers() if name.endswith("running_mean")).add_(1)
    assert digest_of_weights(first.network) != digest


def test_jobs_that_start_together_share_the_work(tmp_path):
    factory = tiny_networks(tiny_data())
    barrier, epochs = threading.Barrier(3), 8
    jobs = []

    class Job(threading.Thread):
        def __init__(self):
            super().__init__()
            self.teacher = frozen(next(iter(factory.untrained_teachers())))
            self.stream = factory.data.stream(batch_size=16, seed=1, device=torch.device("cpu"))
            self.memory = self.teacher.memory = Answers(tmp_path, "teacher", "tiny", {}, half=False, most=1e9, ahead=True,
                                                        note=print)
            self.passes, self.said = 0, []
            self.teacher.network.register_forward_hook(self.count)

        def count(self, *_):
            self.passes += 1

        def run(self):
            barrier.wait()
            for epoch in range(epochs):
                for batch in self.stream.epoch(epoch, epochs):
                    self.said.append(self.teacher(batch).logits)

    jobs = [Job() for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=60)
    assert not any(job.is_alive() for job in jobs)
    steps = len(jobs[0].stream)
    assert sum(job.passes for job in jobs) <= epochs * steps + 3  # each epoch once, and a first step each
    assert sum(job.memory.tally.count("filled") for job in jobs) == epochs
    for said in zip(*(job.said for job in jobs), strict=True):
        assert all(torch.equal(said[0], other) for other in said)
    assert sorted(path.suffix for path in tmp_path.glob("tiny-*/*")) == [".safetensors"] * epochs  # locks are gone
