"""Parts of the teacher's answer: each is a distribution, and says what it should and no more."""

import pytest
import torch

from kdrun import functional as KD
from tests.toy import toy_run

ANSWER = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.7, 0.1]], dtype=torch.float64)
LABELS = torch.tensor([0, 3])


def test_each_part_is_a_distribution():
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    for part in (KD.true_class_alone(ANSWER, LABELS), KD.smoothed_by(ANSWER, LABELS), KD.kept_largest(ANSWER, 2),
                 KD.class_relations(weights, LABELS, 0.3), KD.permuted_rest(ANSWER, LABELS, draws)):
        assert torch.allclose(part.sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_parts_by_hand():
    assert KD.true_class_alone(ANSWER, LABELS)[1].tolist() == pytest.approx([0.3, 0.3, 0.3, 0.1])  # though it is wrong
    assert KD.smoothed_by(ANSWER, LABELS)[0].tolist() == pytest.approx([0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3])
    assert KD.kept_largest(ANSWER, 1)[1].tolist() == pytest.approx([0.1, 0.1, 0.7, 0.1])
    uniform = torch.tensor([[0.4, 0.2, 0.2, 0.2]])
    assert torch.allclose(KD.true_class_alone(uniform, torch.tensor([0])), uniform)  # then it is all there is
    apart = KD.class_relations(torch.eye(4), torch.tensor([1]), 0.3)[0]  # orthogonal classes are all alike
    assert apart[0] == apart[2] == apart[3] < apart[1]
    assert KD.gradient_ratio(torch.tensor([[0.9, 0.1]]), torch.tensor([[0.6, 0.4]]), torch.tensor([0]), 0.5).item() \
        == pytest.approx(0.875)


def test_a_permutation_keeps_the_true_class_and_the_values():
    draws = torch.tensor([[0.9, 0.3, 0.1, 0.2], [0.3, 0.2, 0.1, 0.0]])
    found = KD.permuted_rest(ANSWER, LABELS, draws)
    assert found[0].tolist() == [0.5, 0.2, 0.0, 0.3]  # false classes 1, 2, 3 get those of 2, 3, 1
    assert found[1].tolist() == [0.7, 0.1, 0.1, 0.1]
    assert torch.equal(found.sort(dim=1).values, ANSWER.sort(dim=1).values)


def test_the_whole_answer_is_hintons_loss():
    runs = [toy_run("kd", "offline"), toy_run("kd_parts", "offline")]
    found = []
    for run in runs:
        list(run.method.phases(run))
        run.networks.student.eval()
        found.append(run.method.loss(run.networks, next(iter(run.stream.epoch(0, 1)))))
    assert found[0].keys() == found[1].keys()
    for name, term in found[0].items():
        assert torch.equal(term, found[1][name])


@pytest.mark.parametrize("part", ["smoothing", "confidence", "classes", "largest", "permuted"])
def test_every_part_teaches(part):
    run = toy_run("kd_parts", "offline", f"method.part={part}")
    list(run.method.phases(run))
    batch = next(iter(run.stream.epoch(0, 1)))
    target = run.method.target(run.networks, run.networks.teacher(batch), batch.labels)
    assert torch.allclose(target.sum(dim=1), torch.ones(len(batch)))
    run.method.loss(run.networks, batch)["kd"].backward()
    assert all(weight.grad is None for weight in run.networks.teacher.parameters())
    assert any(weight.grad is not None for weight in run.networks.student.parameters())
