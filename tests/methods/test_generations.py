"""Generations of the student: what each descends, and who teaches it."""

import pytest
import torch
from torch import tensor

from kdrun import functional as KD
from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.self_taught.label_refinery import LabelRefinery
from kdrun.methods.self_taught.tolerant_gen import TolerantGenerations
from kdrun.methods.staged.ban import ConfidenceWeighted, PermutedAnswers, permuted
from kdrun.training.loop import distill
from tests.toy import toy_experiment, toy_run

F64 = torch.float64


class Says:
    """A network in its role, that answers so."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, batch):
        return self


class Pair:
    """A student and its teacher."""

    def __init__(self, student, teacher=None):
        self.student, self.teacher = Says(student), Says(teacher)


@pytest.mark.parametrize(("probabilities", "count", "wanted"), [
    ([0.6, 0.2, 0.1, 0.06, 0.04], 3, 0.45), ([0.04, 0.6, 0.06, 0.2, 0.1], 3, 0.45), ([0.2] * 5, 5, 0.0),
    ([1 - 4e-30, 1e-30, 1e-30, 1e-30, 1e-30], 5, 1.0)])
def test_top_score_difference(probabilities, count, wanted):
    assert float(KD.top_score_difference(tensor([probabilities], dtype=F64).log(), count)) == pytest.approx(wanted)


def test_tolerance_has_the_share_that_the_labels_leave():
    student, batch = torch.randn(6, 5, dtype=F64), Batch(torch.zeros(6), tensor([0, 1, 2, 3, 4, 0]))
    teacher = torch.randn(6, 5, dtype=F64)
    method = TolerantGenerations(generations=1, scores=3, first_share=0.6, label_share=0.7)
    ce = float(torch.nn.functional.cross_entropy(student, batch.labels))
    first, later = method.first_loss(Pair(student), batch), method.loss(Pair(student, teacher), batch)
    tolerance = float(KD.top_score_difference(student, 3))
    assert [float(term) for term in first.values()] == pytest.approx([0.6 * ce, 0.4 * tolerance])
    assert [float(term) for term in later.values()] == pytest.approx([0.7 * ce, 0.3 * float(KD.kl(teacher, student))])


def test_more_scores_than_classes(tmp_path):
    with pytest.raises(ConfigError, match=r"method.scores is 11, but there are 10 classes; give at most 10"):
        toy_experiment("tolerant_gen", tmp_path, "method.scores=11")


def test_a_refined_label_is_all_that_is_learned():
    student = torch.zeros(1, 2, dtype=F64, requires_grad=True)
    batch, method = Batch(torch.zeros(1)), LabelRefinery(generations=1)  # without labels
    term = method.loss(Pair(student.detach(), tensor([[2.0, 0.0]], dtype=F64)), batch)["refined"]
    assert float(term) == pytest.approx(0.693147, abs=1e-6)
    (slope,) = torch.autograd.grad(method.loss(Pair(student, student), batch)["refined"], student)
    assert slope.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(("scheme", "phases"), [("self", 3), ("offline", 2)])
def test_each_generation_is_taught_by_the_one_before(scheme, phases):
    run = toy_run("label_refinery", scheme, "method.generations=2")
    first = run.networks.student
    distill(run)
    assert len(run.trained) == phases
    assert run.networks.teacher.name == "generation 1"
    assert run.networks.student is not first


def test_labels_weighed_by_confidence():
    student, batch = torch.randn(3, 4, dtype=F64), Batch(torch.zeros(3), tensor([0, 1, 2]))
    alike = tensor([[3.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 3.0, 0, 0]], dtype=F64)
    ce = torch.nn.functional.cross_entropy(student, batch.labels, reduction="none")
    assert float(ConfidenceWeighted().loss(Pair(student, alike), batch)["weighed"]) == pytest.approx(float(ce.mean()))
    sure = tensor([[0.7, 0.1, 0.1, 0.1], [0.3, 0.3, 0.2, 0.2], [0.25] * 4], dtype=F64).log()
    wanted = (0.7 * ce[0] + 0.3 * ce[1] + 0.25 * ce[2]) / 1.25
    assert float(ConfidenceWeighted().loss(Pair(student, sure), batch)["weighed"]) == pytest.approx(float(wanted))


def test_permuted_answers_keep_the_largest_and_all_values():
    logits = torch.randn(50, 6, dtype=F64)
    mixed = permuted(logits, torch.Generator().manual_seed(1))
    assert torch.equal(mixed.sort(dim=1).values, logits.sort(dim=1).values)
    assert torch.equal(mixed.argmax(dim=1), logits.argmax(dim=1))
    assert len({tuple(row) for row in (mixed - logits).sign().tolist()}) > 20  # each row by an order of its own
    method = PermutedAnswers(ce_weight=0.0, kd_weight=1.0)
    method.random = torch.Generator().manual_seed(1)
    term = method.loss(Pair(logits, logits), Batch(torch.zeros(50), torch.zeros(50, dtype=torch.long)))["kd"]
    assert float(term) == pytest.approx(float(KD.soft_cross_entropy(mixed, logits)))


@pytest.mark.parametrize("base", ["cwtm", "dkpp"])
def test_born_again_by_its_ablations(base):
    run = toy_run("ban", "self", "method.generations=1", f"method/base={base}")
    distill(run)
    assert run.method.base.random is run.generator
    assert len(run.trained) == 2
