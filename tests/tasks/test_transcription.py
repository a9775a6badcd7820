import math

import pytest
import torch

from kdrun.data.samples import Samples, Source
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import task_class
from kdrun.tasks.transcription import Transcription, ctc_loss, frames_needed

TASK = Transcription(("a", "b"), (3, 2))
SAMPLES = Samples(torch.zeros(3, 3, 2), torch.tensor([[1, 2], [1, 0], [0, 0]]), {"lengths": torch.tensor([3, 2, 1])})
THREE = torch.tensor([[0.2, 0.5, 0.3]] * 3).log()


def one_loss(log_probs: torch.Tensor, target: list[int]) -> float:
    padded = torch.tensor([target + [0] * (4 - len(target))])
    return float(ctc_loss(log_probs[None], torch.tensor([len(log_probs)]), padded, torch.tensor([len(target)])))


def test_the_loss_on_numbers() -> None:
    two = torch.tensor([[0.6, 0.4]] * 2).log()
    assert one_loss(two, [1]) == pytest.approx(0.446287, abs=1e-6)        # -ln 0.64
    assert one_loss(two, []) == pytest.approx(1.021651, abs=1e-6)         # -ln 0.36
    assert one_loss(THREE, [1, 1]) == pytest.approx(2.995732, abs=1e-6)   # a, blank, a alone
    assert one_loss(two[:1], [1, 1]) == math.inf


def test_the_mean_is_over_samples_whatever_their_lengths() -> None:
    logits, targets, counts = torch.stack([THREE, THREE]), torch.tensor([[1, 1], [2, 0]]), torch.tensor([2, 1])
    both = float(ctc_loss(logits, torch.tensor([3, 3]), targets, counts))
    assert both == pytest.approx((one_loss(THREE, [1, 1]) + one_loss(THREE, [2])) / 2)


def test_a_longer_padding_changes_neither_loss_nor_gradient() -> None:
    gradients = []
    for padding in (0, 2):
        logits = torch.nn.functional.pad(torch.stack([THREE, THREE]), (0, 0, 0, padding), value=3.0).requires_grad_()
        ctc_loss(logits, torch.tensor([3, 2]), torch.tensor([[1, 2], [1, 0]]), torch.tensor([2, 1])).backward()
        assert logits.grad is not None
        assert (logits.grad[:, 3:] == 0).all()
        gradients.append(logits.grad[:, :3])
    torch.testing.assert_close(*gradients)


def test_how_many_frames_a_target_needs() -> None:
    assert frames_needed(torch.tensor([[1, 1, 2, 2], [1, 2, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]])).tolist() == [6, 3, 1, 0]


def test_rows_are_the_frames_and_have_no_labels() -> None:
    rows = torch.tensor([2, 0])
    batch = TASK.batch(SAMPLES, rows, SAMPLES.inputs[rows])
    logits = torch.arange(18.0).reshape(2, 3, 3)
    assert batch.y is None
    assert torch.equal(TASK.rows(logits, batch), torch.cat([logits[0, :1], logits[1]]))
    assert task_class("transcription") is Transcription
    assert TASK.given()["classes"] == 3
    assert TASK.row_names == ("blank", "a", "b")


def test_the_label_loss_reads_the_layout_of_the_network() -> None:
    batch = TASK.batch(SAMPLES, torch.tensor([0, 1]), SAMPLES.inputs[:2])
    dense = torch.stack([THREE, THREE])
    output = ModelOutput(TASK.rows(dense, batch), torch.zeros(2, 1), dense=dense)
    assert float(TASK.label_loss(output, batch)) == pytest.approx((one_loss(THREE, [1, 2]) + one_loss(THREE[:2], [1])) / 2)
    with pytest.raises(ValueError, match=r"recipe.label_smoothing is 0.1"):
        TASK.label_loss(output, batch, smoothing=0.1)


def test_measures_on_numbers() -> None:
    found = torch.tensor([[1, 0, 1], [0, 1, 2], [2, 2, 2]])  # a a for a b; a for a; b for nothing (what is padded is not read)
    answers = ModelOutput(torch.nn.functional.one_hot(found, 3).float(), torch.zeros(3, 1))
    assert TASK.measures(answers, SAMPLES) == {
        "symbol_accuracy": pytest.approx(1 / 3), "error_rate": pytest.approx(2 / 3), "sequence_accuracy": pytest.approx(1 / 3),
        "insertions": 1, "deletions": 0, "substitutions": 1}
    assert TASK.decode(answers) == [["a", "a"], ["a", "b"], ["b"]]
    nothing = TASK.measures(ModelOutput(torch.eye(3)[[0] * 9].reshape(3, 3, 3), torch.zeros(3, 1)), SAMPLES)
    assert nothing["symbol_accuracy"] == 0
    assert set(nothing) == set(TASK.measured)


@pytest.mark.parametrize(("labels", "said"), [
    ([[1, 1]], "1 of the 1 training samples have fewer frames than their symbols need"),
    ([[3, 0]], "run from 0 to 3; expected 1 to 2"),
    ([[0, 1]], "symbols after a 0"),
])
def test_what_is_wrong_with_the_data_is_said(labels: list[list[int]], said: str) -> None:
    good, bad = (Samples(torch.zeros(1, 2, 2), torch.tensor(own), {"lengths": torch.tensor([2])}) for own in ([[1, 2]], labels))
    assert TASK.problems(Source(good, good, TASK.classes)) == []
    assert said in TASK.problems(Source(bad, good, TASK.classes))[0]
