"""Translation: rows of right positions, teacher forcing, and measures of what is written."""

import itertools
import math

import pytest
import torch

from kdrun import experiment
from kdrun.data.samples import Samples
from kdrun.models.output import ModelOutput
from kdrun.models.seq2seq import Seq2Seq
from kdrun.models.transformer_seq2seq import TransformerSeq2Seq
from kdrun.tasks.generation import NOTHING
from kdrun.tasks.translation import Translation, prefixes
from kdrun.utils.progress import Progress
from tests.toy import rows_of, settings_of

NAMES = ("<end>", "K", "AE", "AH", "T", "D", "AO", "G", "Z")
INFO = {"vocabulary": 8, "length": 4, "target_length": 5, "beam": 1, "length_exponent": 0.0}
NONE = -100


def task_of(**changes) -> Translation:
    return Translation(NAMES, (4,), INFO | changes)


def samples_of(*targets: str | tuple[str, ...]) -> Samples:
    """Sources of 1 to 4 tokens with these targets; a tuple is several right ones."""
    several = [(one,) if isinstance(one, str) else one for one in targets]
    references = torch.full((len(targets), max(map(len, several)), 5), NONE)
    for row, own in enumerate(several):
        for number, target in enumerate(own):
            classes = [NAMES.index(name) for name in target.split()] + [0]
            references[row, number, :len(classes)] = torch.tensor(classes)
    inputs = torch.tensor([[3, 5, 2, 7], [4, 0, 0, 0], [2, 6, 0, 0]])[:len(targets)]
    return Samples(inputs, references[:, 0].clone(), {"references": references})


def written(task: Translation, samples: Samples, *hypotheses: str) -> dict[str, float | None]:
    """The measures of these hypotheses, with logits that know nothing."""
    symbols = torch.full((len(hypotheses), 18), NOTHING)
    for row, names in enumerate(hypotheses):
        symbols[row, :len(names.split())] = torch.tensor([NAMES.index(name) for name in names.split()], dtype=torch.long)
    logits = torch.zeros(len(samples), 5, len(NAMES))
    answers = ModelOutput(logits, torch.empty(0), heads={"symbols": symbols})
    assert task.decode(answers) == [names.split() for names in hypotheses]
    return task.measures(answers, samples)


@pytest.fixture(params=["seq2seq", "transformer_seq2seq"])
def network(request) -> torch.nn.Module:
    torch.manual_seed(0)
    given = {"classes": len(NAMES), "vocabulary": 8, "dropout": 0.0, "layers": 1, "width": 8}
    network = Seq2Seq(embedding=4, **given) if request.param == "seq2seq" else \
        TransformerSeq2Seq(heads=2, expansion=1, kernel=3, **given)
    return network.eval()


def test_a_row_is_a_position_of_the_target_with_its_end():
    task, samples = task_of(), samples_of("K AE T", "D", "")
    batch = task.batch(samples, torch.arange(3), samples.inputs)
    assert batch.labels.tolist() == [1, 2, 4, 0, 5, 0, 0]
    assert batch.places.tolist() == [0, 1, 2, 3, 5, 6, 10]
    assert batch.x.prefix.tolist() == [[1, 3, 4, 6, 0], [1, 7, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert batch.x.mask.tolist() == [[True] * 4, [True, False, False, False], [True, True, False, False]]
    logits = torch.randn(3, 5, len(NAMES))
    assert torch.equal(task.rows(logits, batch)[4], logits[1, 0])
    assert prefixes(torch.full((1, 3), NONE)).tolist() == [[0, 0, 0]]


def test_the_label_loss_is_the_mean_over_rows_and_0_without_any():
    task, samples = task_of(), samples_of("K AE T", "D", "")
    batch = task.batch(samples, torch.arange(3), samples.inputs)
    uniform = ModelOutput(torch.zeros(7, len(NAMES)), torch.empty(0))
    assert task.label_loss(uniform, batch).item() == pytest.approx(math.log(len(NAMES)))
    nothing = samples.map(torch.clone)
    nothing.labels[:] = NONE
    batch = task.batch(nothing, torch.arange(3), nothing.inputs)
    logits = torch.zeros(3, 5, len(NAMES), requires_grad=True)
    loss = task.label_loss(ModelOutput(task.rows(logits, batch), torch.empty(0)), batch)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_the_phone_error_rate_is_of_all_phones_together():
    found = written(task_of(), samples_of("K AE T", "D AO G Z"), "K AH T", "D AO G")
    assert found["error_rate"] == pytest.approx(2 / 7)
    assert found["symbol_accuracy"] == pytest.approx(5 / 7)
    assert found["sequence_accuracy"] == 0
    assert found["perplexity"] == pytest.approx(len(NAMES))
    assert set(found) == set(Translation.measured)


def test_the_nearest_of_several_right_targets_counts():
    found = written(task_of(), samples_of(("K AE T", "K AH T"), "D AO"), "K AH T", "D AO G")
    assert found["error_rate"] == pytest.approx(1 / 5)
    assert found["sequence_accuracy"] == 0.5
    assert written(task_of(), samples_of("", "D"), "G", "D")["error_rate"] == 1  # an empty one adds what was put in


@pytest.mark.parametrize(("hypothesis", "accuracy"), [("K AE T", 1.0), ("", 0.0), ("Z " * 10, 0.0)])
def test_the_headline_is_from_0_to_1(hypothesis, accuracy):
    found = written(task_of(), samples_of("K AE T"), hypothesis.strip())
    assert found["symbol_accuracy"] == accuracy
    assert found["error_rate"] == (10 / 3 if accuracy < 1 and hypothesis else 1 - accuracy)


def test_a_network_writes_by_itself_whatever_the_labels_are(network):
    task, samples = task_of(), samples_of("K AE T", "D", "")
    other = samples_of("", "Z Z", "G AO T D")
    answers = [task.predict(network, task.batch(one, torch.arange(3), one.inputs)) for one in (samples, other)]
    assert torch.equal(answers[0].heads["symbols"], answers[1].heads["symbols"])
    assert answers[0].heads["symbols"].shape == (3, 18)  # so that batches of other sources can be joined
    assert not torch.equal(answers[0].logits, answers[1].logits)
    wide = task_of(beam=3, length_exponent=0.6)
    assert wide.predict(network, wide.batch(samples, torch.arange(3), samples.inputs)).heads["symbols"].shape == (3, 18)


def test_an_ignored_sample_changes_nothing(network):
    task, samples = task_of(), samples_of("K AE T", "D", "AO")
    losses = []
    for rows in (torch.tensor([0, 1]), torch.tensor([0, 1, 2])):
        ignored = samples.map(torch.clone)
        ignored.labels[2] = NONE
        batch = task.batch(ignored, rows, ignored.inputs[rows])
        losses.append(task.label_loss(ModelOutput(task.rows(network(batch.x).logits, batch), torch.empty(0)), batch))
    torch.testing.assert_close(losses[0], losses[1])


def test_the_example_is_what_networks_expect(network):
    task = task_of()
    assert tuple(network(task.example(2)).logits.shape) == task.expected(2) == (2, 5, len(NAMES))
    assert task.given()["vocabulary"] == 8


def test_a_run_on_pairs_of_ones_own_from_its_config_to_its_rows(tmp_path):
    words = ["".join(letters) for length in (1, 2) for letters in itertools.product("abcdef", repeat=length)]
    table = tmp_path / "pairs.csv"
    table.write_text("source,target\n" + "".join(f"{word},{' '.join(reversed(word.upper()))}\n" for word in words))
    given = ["dataset=pairs", f"dataset.train={table}", "teacher.width=8", "student.width=4", "recipe.epochs=1",
             "recipe.batch_size=8", "method=kd", "threads=1"]
    rows = rows_of(experiment.run(settings_of(*given, f"outputs={tmp_path}"), Progress(None)))
    assert set(rows) == {"teacher", "baseline", "student"}
    for row in rows.values():
        assert row["headline"] == "symbol_accuracy"
        assert 0 <= row["headline_value"] == row["symbol_accuracy"] <= 1
        assert row["error_rate"] >= 1 - row["symbol_accuracy"]
    assert rows["student"]["distillation_factor"] == rows["teacher"]["parameters"] / rows["student"]["parameters"]
    assert rows["student"]["kl"] > 0
