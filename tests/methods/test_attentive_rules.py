"""Attentive rules: how they are found, how they vote, and who learns by which term."""

import pytest
import torch

import kdrun
from kdrun.config.schema import ConfigError
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.response.attentive_rules import Rules, brightness, find_rules, taught
from kdrun.storage.finished import weights_file
from tests.toy import prepared, rows_of, toy_experiment, toy_run


def test_a_vote_is_a_factor():
    logits = torch.tensor([[0.6, 0.4]], dtype=torch.float64).log()
    votes = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert taught(logits, votes, 2.0).softmax(dim=1)[0].tolist() == pytest.approx([0.1687, 0.8313], abs=1e-4)
    student = logits.clone().requires_grad_()
    soft_cross_entropy(taught(student, 0 * votes, 2.0), student).backward()
    assert student.grad.abs().max() < 1e-12  # no rule holds, and there is nothing to learn


def test_rules_are_as_wide_as_they_can_be_and_right_often_enough():
    values = torch.tensor([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]])
    labels = torch.tensor([1, 1, 1, 0, 1, 0])
    found = {(int(value), int(label)): float(threshold)
             for value, threshold, label in zip(*find_rules(values, labels, 2, 0.65, 2), strict=True)}
    # above 0.35 two of three are of class 0; below 0.55 four of five are of class 1
    assert found == pytest.approx({(0, 0): 0.35, (1, 1): -0.55})
    assert not len(find_rules(values, labels, 2, 0.95, 4)[0])
    assert not len(find_rules(torch.ones(6, 1), labels, 2, 0.5, 1)[0])  # equal values cannot be told apart


def test_the_votes_of_rules_that_hold_add_up():
    rules = Rules(3, grid=1, classes=2, features=4, width=5)
    rules.value.copy_(torch.tensor([0, 0, 1]))
    rules.threshold.copy_(torch.tensor([0.5, 0.7, -0.2]))  # brighter than 0.5, than 0.7, darker than 0.2
    rules.label.copy_(torch.tensor([0, 1, 1]))
    pictures = torch.tensor([0.9, 0.6, 0.1, 0.4])[:, None, None, None].expand(4, 1, 2, 2)
    assert rules.hold(pictures).tolist() == [[True, True, False], [True, False, False], [False, False, True], [False] * 3]
    votes = rules(pictures, torch.randn(4, 4))
    assert votes.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0])
    assert votes[1].tolist() == [1, 0]
    assert votes[2].tolist() == [0, 1]
    assert torch.equal(brightness(pictures, 1)[:, 0], pictures[:, 0, 0, 0])


def test_the_attention_learns_by_its_own_term_alone():
    run = toy_run("attentive_rules", "self", "method.ramp_share=0")
    run.method.setup(run.networks, run.data)
    terms = run.method.loss(run.networks, next(run.stream.epoch(0, 1)))
    student, attention = list(run.networks.student.parameters()), list(run.method.rules.parameters())
    for name, moved, still in (("ce", student, attention), ("rules", student, attention), ("attention", attention, student)):
        def slopes(weights, term=terms[name]):
            found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            return any(one is not None and bool(one.any()) for one in found)
        assert slopes(moved), name
        assert not slopes(still), name


def test_the_student_with_its_rules_has_a_row_and_can_be_built_again(tmp_path):
    rows = rows_of(toy_experiment("attentive_rules", tmp_path))
    assert list(rows) == ["baseline", "student", "student with rules"]
    (table,) = (tmp_path / "runs").glob("*/rules.csv")
    assert table.read_text().startswith("run,row,column,side,threshold,class,held,right")
    loaded, data = kdrun.load(table.parent / weights_file("student with rules")), prepared(("attentive_rules",)).data
    with torch.no_grad():
        answers = loaded.network(loaded.preprocess(data.test.inputs)).logits
    right = float((answers.argmax(1) == data.test.labels).double().mean())
    assert right == pytest.approx(rows["student with rules"]["accuracy"])


def test_pictures_without_rules_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no rule on the brightness of a cell"):
        toy_experiment("attentive_rules", tmp_path, "method.precision=0.99", "method.coverage=0.9")
