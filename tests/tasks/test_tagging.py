from types import SimpleNamespace

import pytest
import torch

from kdrun.data.samples import Samples, Source
from kdrun.methods.response.kd import KD, SHARP
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import task_class
from kdrun.tasks.tagging import IGNORED, Tagging

TASK = Tagging(("a", "b", "gap"), (4, 2), {"gap": 2})
SAMPLES = Samples(torch.zeros(3, 4, 2), torch.tensor([[0, 0, 2, 1], [1, 2, IGNORED, IGNORED], [IGNORED] * 4]),
                  {"lengths": torch.tensor([4, 2, 1])})


def output(found: torch.Tensor) -> ModelOutput:
    return ModelOutput(10 * torch.nn.functional.one_hot(found, 3).float(), torch.zeros(3, 1))


def test_rows_are_the_places_that_have_a_label() -> None:
    rows = torch.tensor([1, 0, 2])
    batch = TASK.batch(SAMPLES, rows, SAMPLES.inputs[rows])
    logits = torch.arange(36.0).reshape(3, 4, 3)
    assert batch.labels.tolist() == [1, 2, 0, 0, 2, 1]
    assert torch.equal(TASK.rows(logits, batch), torch.cat([logits[0, :2], logits[1]]))
    assert batch.x.mask.sum(dim=1).tolist() == [2, 4, 1]
    assert task_class("tagging") is Tagging


def test_a_sample_without_labels_changes_no_loss() -> None:
    logits = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))

    def loss(rows: list[int]) -> torch.Tensor:
        batch = TASK.batch(SAMPLES, torch.tensor(rows), SAMPLES.inputs[rows])
        return TASK.label_loss(ModelOutput(TASK.rows(logits[rows], batch), torch.zeros(len(rows), 1)), batch)

    assert torch.equal(loss([0, 1]), loss([0, 1, 2]))
    assert loss([2]).item() == 0
    assert loss([1, 0]).item() == pytest.approx(loss([0, 1]).item(), rel=1e-6)


def test_measures_on_numbers() -> None:
    found = torch.tensor([[0, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    measures = TASK.measures(output(found), SAMPLES)
    assert measures["frame_accuracy"] == pytest.approx(4 / 6)
    assert measures["foreground_accuracy"] == pytest.approx(3 / 4)
    assert measures["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 4 + 2 * 1 / 3) / 3)
    assert measures["segment_error_rate"] == pytest.approx(1 / 3)  # a b, b against a a, b
    assert measures["segment_accuracy"] == pytest.approx(2 / 3)
    assert set(measures) == set(TASK.measured)


def test_right_answers_are_perfect_and_constant_ones_chance() -> None:
    assert TASK.measures(output(SAMPLES.labels.clamp(min=0)), SAMPLES)["segment_accuracy"] == 1
    assert TASK.measures(output(SAMPLES.labels.clamp(min=0)), SAMPLES)["frame_accuracy"] == 1
    constant = TASK.measures(output(torch.full((3, 4), 2)), SAMPLES)
    assert constant["frame_accuracy"] == pytest.approx(2 / 6)
    assert constant["foreground_accuracy"] == constant["segment_accuracy"] == 0


def test_a_user_reads_names() -> None:
    answer = output(torch.tensor([[0, 1, 2, 0]] * 3)).replace(mask=torch.arange(4) < torch.tensor([[3], [1], [0]]))
    assert TASK.decode(answer) == [["a", "b", "gap"], ["a"], []]


@pytest.mark.parametrize(("labels", "lengths", "said"), [
    ([[0, 3]], [2], "run from 0 to 3; expected 0 to 2"),
    ([[0, 1]], [1], "beyond the end"),
    ([[0, 1]], [3], "lengths of the training samples run from 3 to 3; expected 1 to 2"),
    ([[0]], [2], "expected int64 of [1, 2], one a place"),
    ([[IGNORED, IGNORED]], [2], "no place of the training samples has a label"),
])
def test_what_is_wrong_with_the_data_is_said(labels: list[list[int]], lengths: list[int], said: str) -> None:
    good = Samples(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]), {"lengths": torch.tensor([2])})
    bad = Samples(torch.zeros(1, 2, 2), torch.tensor(labels), {"lengths": torch.tensor(lengths)})
    assert TASK.problems(Source(good, good, TASK.classes)) == []
    assert said in TASK.problems(Source(bad, good, TASK.classes))[0]


def test_a_temperature_that_was_measured_to_harm_is_told_of() -> None:
    told = {}
    for temperature in (1.0, 4.0):
        method = KD(temperature=temperature, ce_weight=0.1, kd_weight=0.9, form="zhu")
        method.setup(None, SimpleNamespace(task=SimpleNamespace(key="tagging", inputs="frames")))
        told[temperature] = method.notes
    assert told[1.0] == []
    (line,) = told[4.0]
    assert SHARP["tagging of frames"] in line
