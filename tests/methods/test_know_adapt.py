"""Teachers of other domains than the student's: who sees what, who counts how much, and which samples are trusted."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.arithmetic import mixture, unit_rows
from kdrun.methods.multi_teacher.know_adapt import jensen_shannon, margins, mean_answer
from kdrun.training.loop import distill
from tests.toy import prepared, toy_run

F64 = torch.float64
THREE = ("teachers=[cnn,cnn,cnn]", "dataset.teacher_sees=[picture,half_resolution,inverted]")


def test_numbers():
    assert jensen_shannon(tensor([0.5, 0.5], dtype=F64), tensor([1.0, 0.0], dtype=F64)) == pytest.approx(0.2158, abs=5e-5)
    assert jensen_shannon(tensor([0.0, 1.0], dtype=F64), tensor([1.0, 0.0], dtype=F64)) == pytest.approx(math.log(2))
    centres = tensor([[1.0, 0.0], [0.0, 1.0]], dtype=F64)
    for vector, wanted in (([1.0, 0.0], 1.0), ([1.0, 1.0], 0.0), ([2.0, 1.0], 0.4472)):
        near = unit_rows(tensor([vector], dtype=F64)) @ centres.T
        assert float((near[0, 0] - near[0, 1]).abs()) == pytest.approx(wanted, abs=5e-5)
        with_their_centres = torch.cat([centres.repeat(1000, 1), tensor([vector], dtype=F64)])  # one more moves no centre
        answers = torch.cat([torch.arange(2).repeat(1000), tensor([0])])
        assert float(margins(with_their_centres, answers, 3)[-1]) == pytest.approx(wanted, abs=2e-3)


def test_equal_shares_are_the_mean_of_the_teachers():
    logits = [torch.randn(6, 4, dtype=F64) for _ in range(3)]
    assert torch.allclose(mean_answer(logits, [1 / 3] * 3, 5.0), (mixture(logits, 5.0) / 5.0).softmax(dim=1))


def test_one_answered_class_has_no_margin():
    assert margins(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), 4).tolist() == [0] * 5


def test_each_teacher_learns_in_its_own_domain_and_is_asked_about_the_students():
    toy = prepared(("know_adapt", *THREE))
    assert list(toy.data.views) == ["teacher", "teacher 2", "teacher 3"]
    digests = [toy.data.seen(who).digest for who in ("student", "teacher", "teacher 2", "teacher 3")]
    assert len(set(digests)) == 4
    run = toy_run("know_adapt", "offline", *THREE)
    assert [teacher.view for teacher in run.networks.teachers] == ["teacher", "teacher 2", "teacher 3"]
    run.method.setup(run.networks, run.data)
    batch = next(run.stream.epoch(0, 1))
    for teacher, asked in zip(run.networks.teachers, run.method.asked, strict=True):
        assert torch.equal(asked(batch.pictures).logits, teacher.network(batch.x).logits)
    assert sum(run.method.shares) == pytest.approx(1)
    assert run.method.shares[2] < run.method.shares[0]  # an inverted picture is as dark as these are bright
    assert run.method.notes[-1].startswith("teachers count ")


@pytest.mark.parametrize("similarity", ["equal", "embedding", "histogram"])
def test_no_label_of_the_students_domain_is_read(similarity):
    ends = []
    for shift in (0, 1):
        run = toy_run("know_adapt", "offline", *THREE, f"method.similarity={similarity}")
        run.data.train.labels.copy_((run.data.train.labels + shift) % 10)
        distill(run)
        run.data.train.labels.copy_((run.data.train.labels - shift) % 10)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_one_teacher_has_trusted_samples_in_every_other_epoch():
    run = toy_run("know_adapt", "offline", "method.imitation=0.25")
    distill(run)
    assert {(row[2], row[4]) for row in run.history if row[3] == "train"} == {(0, "soft"), (1, "trusted")}
    logits = torch.randn(5, 10)
    plain, sure = run.method.target([logits], trusted=False), run.method.target([logits], trusted=True)
    assert torch.allclose(plain, (logits / 5).softmax(dim=1))
    assert torch.allclose(sure, 0.75 * F.one_hot(logits.argmax(1), 10) + 0.25 * plain)


def test_the_teachers_answers_are_a_product():
    run = toy_run("know_adapt", "offline", *THREE)
    distill(run)
    together = run.method.trained_networks(run.networks)["source teachers"].eval()
    x = torch.randn(4, *run.data.shape)
    wanted = mean_answer([teacher.network(x).logits for teacher in run.method.asked], run.method.shares, 1.0)
    assert torch.allclose(together(x).logits.softmax(1), wanted, atol=1e-6)


def test_domains_of_other_shapes():
    with pytest.raises(ConfigError, match=r"teacher 2 has learned such of \[1, 8, 4\] and the student's are \[1, 8, 8\]"):
        prepared(("know_adapt", "teachers=[cnn,cnn]", "dataset.teacher_sees=[picture,left]"))


def test_the_loss_is_the_cross_entropy_with_the_weighted_answers():
    run = toy_run("know_adapt", "offline", *THREE)
    run.method.setup(run.networks, run.data)
    batch = next(run.stream.epoch(0, 1))
    wanted = mean_answer([teacher.network(batch.x).logits for teacher in run.method.asked], run.method.shares, 5.0)
    given = F.log_softmax(run.networks.student(batch).logits.detach() / 5.0, dim=1)
    found = run.method.loss(run.networks, batch)
    assert list(found) == ["soft"]
    assert float(found["soft"].detach()) == pytest.approx(-25 * float((wanted * given).sum(dim=1).mean()), rel=1e-5)
