"""Tasks: their split, their batches, and what is measured of them."""

import pytest
import torch
from torch import tensor

from kdrun.data.class_incremental import TaskStream, accuracies, exemplars, forgetting, split
from kdrun.data.stream import MemoryStream, Normalise
from kdrun.tasks.classification import Classification
from tests.conftest import pictures_of

TASK = Classification((), ())


def stream(batch_size=8):
    return MemoryStream(pictures_of(10, 0), TASK, Normalise([0.0], [1.0]), batch_size=batch_size, crop=1, flip=True, seed=3,
                         device=torch.device("cpu"))


class TestSplit:
    @pytest.mark.parametrize(("wanted", "sizes"), [(2, [5, 5]), (3, [4, 3, 3]), (10, [1] * 10), ([5, 3, 2], [5, 3, 2])])
    def test_classes_in_order(self, wanted, sizes):
        tasks = split(10, wanted)
        assert [task.stop - task.start for task in tasks] == sizes
        assert [label for task in tasks for label in range(10)[task]] == list(range(10))

    @pytest.mark.parametrize("wanted", [1, 11, [10], [5, 4], [5, 5, 0], [6, 6, -2]])
    def test_what_is_no_split(self, wanted):
        with pytest.raises(ValueError, match="there are 10 classes"):
            split(10, wanted)


class TestTaskStream:
    def test_a_task_has_its_classes_alone_in_the_order_of_all(self):
        parent = stream()
        task = TaskStream(parent, torch.arange(10), slice(1, 3))
        batches = list(task.epoch(2, 5))
        assert len(task) == len(batches) == 20 // 8
        rows = torch.cat([batch.index for batch in batches])
        assert set(parent.labels[rows].tolist()) == {1, 2}
        order = [row for row in parent.order(2).tolist() if 1 <= parent.labels[row] < 3]
        assert rows.tolist() == order[:16]
        assert torch.equal(batches[0].x, parent.batch(batches[0].rows, 2, 5, 0).x)

    def test_kept_samples_come_after_the_new_ones(self):
        parent = stream()
        kept = exemplars(parent.labels, 2, 5, 1)
        batches = list(TaskStream(parent, torch.arange(10), slice(2, 4), kept).epoch(0, 1))
        for batch in batches:
            assert len(batch) == 16
            assert set(batch.y[:8].tolist()) <= {2, 3}
            assert set(batch.index[8:].tolist()) <= set(kept.tolist())
            assert len(set(batch.index[8:].tolist())) == 8
        assert batches[0].index[8:].tolist() != batches[1].index[8:].tolist()

    def test_an_epoch_goes_on_from_any_step(self):
        parent = stream(batch_size=5)
        task = TaskStream(parent, torch.arange(10), slice(2, 4), exemplars(parent.labels, 2, 5, 1))
        whole, rest = list(task.epoch(1, 2)), list(task.epoch(1, 2, first=2))
        assert [batch.step for batch in rest] == [2, 3]
        assert all(torch.equal(one.index, other.index) and torch.equal(one.x, other.x)
                   for one, other in zip(whole[2:], rest, strict=True))

    def test_a_small_task_makes_one_batch(self):
        assert len(TaskStream(stream(batch_size=32), torch.arange(10), slice(0, 1))) == 1

    def test_a_task_without_pictures_is_refused(self):
        with pytest.raises(ValueError, match="has 0 training picture"):
            TaskStream(stream(), torch.arange(10), slice(4, 5))


def test_exemplars_are_so_many_of_each_earlier_class():
    labels = tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 1])
    rows = exemplars(labels, 2, 3, seed=1)
    assert labels[rows].tolist() == [0, 0, 0, 1, 1, 1]
    assert len(set(rows.tolist())) == 6
    assert torch.equal(rows, exemplars(labels, 2, 3, seed=1))
    assert exemplars(labels, 1, 99, seed=1).sort().values.tolist() == [0, 3, 6]


class TestMeasures:
    # the second sample looks most like class 2, of the other task, and within its own task like 0
    logits = tensor([[3.0, 0, 0, 0], [2.0, 1, 5, 0], [0, 0, 2, 1], [0, 0, 2, 1]])
    labels = tensor([0, 0, 2, 3])
    tasks = (slice(0, 2), slice(2, 4))

    def test_with_and_without_being_told_the_task(self):
        assert accuracies(self.logits, self.labels, self.tasks, told=True) == [1.0, 0.5]
        assert accuracies(self.logits, self.labels, self.tasks, told=False) == [0.5, 0.5]

    def test_classes_to_come_do_not_compete(self):
        assert accuracies(self.logits, self.labels, self.tasks[:1], told=False) == [1.0]

    def test_forgetting_is_against_the_best_and_leaves_the_last_task_out(self):
        assert forgetting([[0.9], [0.95, 0.8], [0.5, 0.7, 1.0]]) == pytest.approx((0.45 + 0.1) / 2)
        assert forgetting([[0.5], [0.6, 0.9]]) == pytest.approx(0)
