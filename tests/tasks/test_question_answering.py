"""Questions about scenes: balanced answers, who is shown them, and distillation from a teacher that was."""

from dataclasses import replace

import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.data.compose import Scenes
from kdrun.data.scene_questions import ANSWERS, FORMS, WORDS, questions_of
from kdrun.methods.losses import kd
from kdrun.tasks.question_answering import answer_loss
from tests.toy import prepared, toy_run


@pytest.fixture(scope="module")
def data():
    return prepared(("do_vqa", "scheme=offline")).data


def test_what_a_scene_answers():
    """A 3 in the top left, a 7 below it and further left, and two 5 on the right."""
    boxes = tensor([[[6, 2, 8, 4], [1, 10, 3, 12], [12, 2, 14, 4], [12, 10, 14, 12]]]).float()
    rows = questions_of(Scenes(torch.zeros(1, 16, 16, 1), torch.zeros(1, 16, 16), tensor([[3, 7, 5, 5]]), boxes), 16)
    said = {(FORMS[form], digit): ANSWERS[answer] for _, form, digit, answer in rows.tolist()}
    assert [said["is there a", digit] for digit in (3, 4)] == ["yes", "no"]
    assert [said["how many", digit] for digit in (4, 3, 5)] == ["zero of it", "one of it", "two of it"]
    assert [said["what is left of", digit] for digit in (3, 7)] == ["7", "nothing"]
    assert [said["where is", digit] for digit in (3, 7)] == ["top left", "bottom left"]
    assert ("where is", 5) not in said  # there are two


def test_a_question_alone_tells_nothing_of_its_answer(data):
    for part in (data.validation, data.test):  # of the training questions the toy takes a few
        counts = [torch.bincount(part.labels[part.fields["form"] == form]) for form in range(4)]
        assert [len(own[own > 0].unique()) for own in counts] == [1, 1, 1, 1]
        assert [int((own > 0).sum()) for own in counts] == [2, 3, 11, 4]
    assert int(data.train.fields["questions"].max()) < len(WORDS)


def test_numbers():
    student, labels = tensor([[1.0, 0.0]]), tensor([0])
    divergence, labelled = 0.2 * kd(tensor([[2.0, 0.0]]), student, 1.5), 0.8 * answer_loss(student, labels)
    assert float(divergence) == pytest.approx(0.018601, abs=1e-6)
    assert float(labelled) == pytest.approx(0.805127, abs=1e-6)
    assert float(answer_loss(student, labels, 1.0)) == pytest.approx(1.313262 / 2 + 0.313262 / 2 + 0.693147, abs=1e-5)


def test_only_the_teacher_reads_the_answer_and_in_training_alone(data):
    run = toy_run("do_vqa", "offline")
    batch = next(iter(run.stream.epoch(0, 1)))
    assert torch.equal(batch.x.answers, batch.y)
    other = replace(batch.x, answers=(batch.x.answers + 1) % len(ANSWERS))
    student, teacher = run.networks.student.train(False), run.networks.teacher
    assert torch.equal(student(batch.x).logits, student(other).logits)
    assert not torch.equal(teacher(batch.x).logits, teacher(other).logits)
    unknown = replace(batch.x, answers=torch.full_like(batch.y, -1))
    assert torch.equal(teacher(unknown).logits, teacher(replace(batch.x, answers=None)).logits)
    assert all(batch.x.answers is None for batch in data.plain(data.test, torch.device("cpu")))


def test_padding_of_a_question_changes_nothing():
    run = toy_run("do_vqa", "offline")
    asked = next(iter(run.stream.epoch(0, 1))).x
    short = ~asked.questions.mask[:, -1]
    assert bool(short.any())
    for role in (run.networks.student.train(False), run.networks.teacher):
        words = asked.questions.values.clone()
        words[short, -1] = 3
        noisy = replace(asked, questions=replace(asked.questions, values=words))
        assert torch.allclose(role(asked).logits, role(noisy).logits)


def test_what_does_not_fit_is_refused_in_a_line():
    with pytest.raises(ConfigError, match="do not move along"):
        prepared(("do_vqa", "scheme=offline", "dataset.flip=true"))
    with pytest.raises(ConfigError, match="more scenes_per_question"):
        prepared(("do_vqa", "scheme=offline", "dataset.held_out=4"))
