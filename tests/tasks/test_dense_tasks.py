"""Segmentation, landmarks and detection: rows, label losses and measures, on numbers that can be computed by hand."""

import pytest
import torch
from torch import Tensor, tensor

from kdrun.data.samples import Samples
from kdrun.methods.losses import kl
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Task
from kdrun.tasks.detection import Detection
from kdrun.tasks.heatmaps import point_targets
from kdrun.tasks.landmarks import Landmarks
from kdrun.tasks.segmentation import Segmentation

CLASSES = ("a", "b", "c")
SHAPE = (1, 8, 8)
ALL = torch.arange(2)


def segmentation(max_rows: int | None = None) -> tuple[Task, Samples]:
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, :4], masks[0, 4, :4], masks[1, :, 6:] = 1, 255, 2
    return Segmentation(CLASSES, SHAPE, {"max_rows": max_rows}), Samples(torch.zeros(2, 8, 8, 1), masks)


def landmarks() -> tuple[Task, Samples]:
    points = tensor([[[2.0, 4.0], [0.0, 0.0], [6.0, 6.0]], [[4.0, 2.0], [0.0, 0.0], [0.0, 0.0]]])
    task = Landmarks(CLASSES, SHAPE, {"heatmap_stride": 2, "sigma": 1.0, "divide_by": "all"})
    return task, Samples(torch.zeros(2, 8, 8, 1), tensor([[1, 0, 1], [1, 0, 0]]), {"points": points})


def detection() -> tuple[Task, Samples]:
    boxes = tensor([[[0.0, 0.0, 4.0, 4.0], [4.0, 3.0, 8.0, 8.0]], [[2.0, 2.0, 6.0, 6.0], [0.0, 0.0, 0.0, 0.0]]])
    task = Detection(CLASSES, SHAPE, {"heatmap_stride": 2, "min_radius": 1})
    return task, Samples(torch.zeros(2, 8, 8, 1), tensor([[0, 2], [0, -1]]), {"boxes": boxes})


def perfect(task: Task, samples: Samples) -> ModelOutput:
    """What is to be answered, in the network's layout."""
    batch = task.batch(samples, ALL, samples.inputs)
    heads = {}
    if isinstance(task, Segmentation):
        mask = batch.targets["mask"]
        logits = 20 * torch.nn.functional.one_hot(torch.where(mask == 255, 0, mask), 3).permute(0, 3, 1, 2).float()
    elif isinstance(task, Landmarks):
        logits = batch.targets["heat"]
    else:
        logits = torch.logit(batch.targets["heat"], eps=1e-6)
        heads = {name: torch.zeros(2, 2, 4, 4) for name in ("size", "offset")}
        for name, maps in heads.items():
            for row in range(2):
                for place in range(2):
                    if samples.labels[row, place] >= 0:
                        cell = int(batch.targets["cell"][row, place])
                        maps[row, :, cell // 4, cell % 4] = batch.targets[name][row, place]
    return ModelOutput(logits, torch.zeros(2, 1), heads=heads, dense=logits)


KINDS = pytest.mark.parametrize("kind", [segmentation, landmarks, detection])


@KINDS
def test_a_perfect_answer_has_a_headline_of_one_and_a_constant_one_less(kind):
    task, samples = kind()
    best = task.measures(perfect(task, samples), samples)
    assert set(best) == set(task.measured)
    assert best[task.headline] == pytest.approx(1.0)
    answer = perfect(task, samples)
    constant = answer.map(torch.zeros_like)
    assert 0 <= task.measures(constant, samples)[task.headline] < 1


@KINDS
def test_rows_have_labels_and_a_perfect_answer_finds_them(kind):
    task, samples = kind()
    batch = task.batch(samples, ALL, samples.inputs)
    rows = task.rows(perfect(task, samples).logits, batch)
    assert rows.shape == (len(batch.labels), task.outputs)
    assert torch.equal(rows.argmax(dim=1), batch.labels)
    assert task.expected(2) == tuple(perfect(task, samples).logits.shape)


@KINDS
def test_a_permuted_batch_has_the_same_losses(kind):
    task, samples = kind()
    answer = perfect(task, samples).map(lambda value: value + 0.1 * torch.randn(value.shape, generator=torch.manual_seed(0)))
    turned = answer.map(lambda value: value.flip(0))
    losses, responses = [], []
    for order, output in ((ALL, answer), (ALL.flip(0), turned)):
        batch = task.batch(samples, order, samples.inputs[order])
        batch.places = batch.places if not isinstance(task, Detection) else torch.arange(2 * 3 * 16)
        losses.append(task.label_loss(output, batch).item())
        rows = task.rows(output.logits, batch)
        responses.append(kl(rows, rows * 0.5, 2.0).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert responses[0] == pytest.approx(responses[1], rel=1e-5)


@KINDS
def test_what_does_not_count_changes_nothing_and_a_batch_of_it_has_a_loss_of_zero(kind):
    task, samples = kind()
    nothing = {segmentation: torch.full_like(samples.labels, 255), landmarks: torch.zeros_like(samples.labels),
               detection: torch.full_like(samples.labels, -1)}[kind]
    batch = task.batch(Samples(samples.inputs, nothing, samples.fields), ALL, samples.inputs)
    assert len(batch.labels) == len(batch.places) == (kind is detection)  # a cell without an object is an answer
    answer = perfect(task, samples)
    logits = (answer.logits * 0 - 20).requires_grad_()
    loss = task.label_loss(answer.replace(logits=logits, dense=logits), batch)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6


def test_ignored_pixels_have_no_part_in_loss_or_rows():
    task, samples = segmentation()
    batch = task.batch(samples, ALL, samples.inputs)
    assert len(batch.labels) == 128 - 4
    answer = perfect(task, samples)
    spoilt = answer.logits.clone()
    spoilt[0, :, 4, :4] = torch.inf
    assert torch.equal(task.rows(spoilt, batch), task.rows(answer.logits, batch))
    assert task.measures(answer.replace(logits=spoilt.nan_to_num(posinf=9.0)), samples)["miou"] == 1.0
    log = tensor([[0.7, 0.2, 0.1]]).log().T.reshape(1, 3, 1, 1).expand(2, 3, 8, 8)
    counts = [int((samples.labels == label).sum()) for label in range(3)]
    expected = -sum(count * log[0, label, 0, 0].item() for label, count in enumerate(counts)) / 124
    assert task.label_loss(answer.replace(dense=log), batch).item() == pytest.approx(expected)


def test_a_random_subset_of_pixels_is_drawn_in_training_alone():
    task, samples = segmentation(max_rows=10)

    def places(seed: int) -> Tensor:
        return task.batch(samples, ALL, samples.inputs, torch.Generator().manual_seed(seed)).places

    assert len(places(0)) == 10
    assert torch.equal(places(0), places(0))
    assert not torch.equal(places(0), places(1))
    assert len(task.batch(samples, ALL, samples.inputs).places) == 124


def test_the_rows_of_a_landmark_are_the_cells_of_its_map():
    task, samples = landmarks()
    batch = task.batch(samples, ALL, samples.inputs)
    assert batch.places.tolist() == [0, 2, 3]                    # of 2 x 3 heatmaps
    assert batch.labels.tolist() == [2 * 4 + 1, 3 * 4 + 3, 4 + 2]  # row * 4 + column
    zeros = torch.zeros(2, 3, 4, 4)
    heat = point_targets(samples.fields["points"], 2, (4, 4))
    expected = 0.5 * heat.square().mean(dim=(2, 3))[samples.labels.bool()].sum() / 6
    assert task.label_loss(ModelOutput(zeros, zeros, dense=zeros), batch).item() == pytest.approx(expected.item())


def test_the_rows_of_a_detector_are_two_classes_that_the_batch_alone_decides():
    task, samples = detection()
    first = task.batch(samples, ALL, samples.inputs, torch.Generator().manual_seed(1))
    near = (first.targets["heat"].amax(dim=1, keepdim=True) > 0.1).expand(-1, 3, -1, -1).flatten()
    assert near[first.places].sum() == near.sum() == 3 * near.view(2, 3, 4, 4)[:, 0].sum()
    assert len(first.places) == 2 * int(near.sum())
    assert int((first.labels == 0).sum()) == 3                   # an object's centre each
    other = task.batch(samples, ALL, samples.inputs, torch.Generator().manual_seed(2))
    assert not torch.equal(first.places, other.places)
    assert torch.equal(task.batch(samples, ALL, samples.inputs).places, task.batch(samples, ALL, samples.inputs).places)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.067131), (2.0, 0.105378)])
def test_a_sigmoid_is_a_row_of_two_classes(temperature, expected):
    task, samples = detection()
    batch = task.batch(samples, ALL, samples.inputs)
    teacher, student = (task.rows(torch.full((2, 3, 4, 4), value), batch) for value in (2.0, 1.0))
    assert (temperature**2 * kl(teacher, student, temperature)).item() == pytest.approx(expected, abs=1e-6)


def test_the_loss_of_a_detector_by_hand():
    task, samples = detection()
    batch = task.batch(samples, ALL, samples.inputs)
    answer = perfect(task, samples)
    least = task.label_loss(answer, batch).item()
    larger = answer.replace(heads={"size": answer.heads["size"] + 1, "offset": answer.heads["offset"]})
    aside = answer.replace(heads={"size": answer.heads["size"], "offset": answer.heads["offset"] + 1})
    assert task.label_loss(larger, batch).item() - least == pytest.approx(0.2, abs=1e-5)  # 0.1 for each of two numbers
    assert task.label_loss(aside, batch).item() - least == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize("kind", [landmarks, detection])
def test_labels_of_heatmaps_are_not_smoothed(kind):
    task, samples = kind()
    with pytest.raises(ValueError, match=r"recipe\.label_smoothing"):
        task.label_loss(perfect(task, samples), task.batch(samples, ALL, samples.inputs), 0.1)


@KINDS
def test_measures_of_a_set_are_not_means_of_its_parts(kind):
    task, samples = kind()
    answer = perfect(task, samples)
    shifted = answer.map(lambda value: torch.cat([value[:1], value[1:].roll(2, -1)]) if value.ndim == 4 else value)
    parts = [task.measures(shifted.map(lambda value, row=row: value[row:row + 1]), samples[tensor([row])])[task.headline]
             for row in range(2)]
    whole = task.measures(shifted, samples)[task.headline]
    assert parts[0] == pytest.approx(1.0)
    assert parts[1] < whole < 1
