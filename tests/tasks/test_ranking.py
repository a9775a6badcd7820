"""The ranking task: its losses on numbers that can be computed by hand, its negatives, its rows, its measures."""

import pytest
import torch

from kdrun.data.feedback import implicit
from kdrun.methods import losses
from kdrun.models.output import ModelOutput
from kdrun.models.recommenders import MF, NeuMF
from kdrun.models.roles import Role
from kdrun.tasks.ranking import Ranking, Untouched, bce, bpr

SETTINGS = {"users": 20, "items": 30, "loss": "bpr", "negatives": 1, "rows": "list", "candidates": 5, "sampled": 0}


def task_of(**changes) -> Ranking:
    info = SETTINGS | changes
    return Ranking(tuple(map(str, range(info["candidates"]))), (), info)


@pytest.fixture(scope="module")
def source():
    return implicit(factors=2, temperature=0.25, fewest=4, most=6, seed=0, **SETTINGS)


def test_bpr():
    assert bpr(torch.tensor([[2.0, 1.0, 9.0]]), 1).item() == pytest.approx(0.313262, abs=1e-6)
    assert bpr(torch.tensor([[1.0, 1.0]]), 1).item() == pytest.approx(0.693147, abs=1e-6)


def test_pointwise_cross_entropy_is_large_and_finite_for_confident_mistakes():
    assert bce(torch.tensor([[0.0, 0.0, 50.0]]), 1).item() == pytest.approx(0.693147, abs=1e-6)
    assert bce(torch.tensor([[-100.0, 100.0]]), 1).item() == pytest.approx(100)


def test_negatives_are_even_over_what_a_user_has_not_touched():
    users, items = torch.tensor([1, 0, 0, 1, 1, 1]), torch.tensor([4, 2, 0, 0, 1, 5])
    untouched = Untouched(users, items, 3, 6)
    drawn = untouched.draw(torch.tensor([0, 1, 2]), 6000, torch.Generator().manual_seed(0))
    for row, free in zip(drawn, ([1, 3, 4, 5], [2, 3], [0, 1, 2, 3, 4, 5]), strict=True):
        share = torch.bincount(row, minlength=6) / 6000
        assert share.nonzero()[:, 0].tolist() == free
        assert torch.allclose(share[free], torch.tensor(1 / len(free)), atol=0.03)


def test_a_user_who_touched_everything():
    with pytest.raises(ValueError, match="user 1 likes all 2 items"):
        Untouched(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2, 2)


def test_a_batch_is_a_user_the_liked_item_and_others_that_are_not_known(source):
    task, rows = task_of(), torch.tensor([3, 0, 7])
    batch = task.batch(source.train, rows, source.train.inputs[rows], torch.Generator().manual_seed(0))
    assert batch.x.shape == (3, 6)
    assert batch.y is None
    for row, pairs in zip(rows.tolist(), batch.x.tolist(), strict=True):
        liked = source.train.labels[source.train.inputs == pairs[0], 0].tolist()
        assert pairs[:2] == [source.train.inputs[row], source.train.labels[row, 0]]
        assert not set(pairs[2:]) & set(liked)


def test_rows_of_a_list_and_of_pairs():
    scores = torch.tensor([[2.0, 1.0, 0.0, 3.0, 4.0, 9.0]])
    task = task_of(negatives=5)
    assert task.rows(scores, None).tolist() == [[2, 1, 0, 3, 4]]
    pairs = task_of(rows="pair").rows(scores, None)
    assert pairs.tolist() == [[2, 0], [1, 0], [0, 0], [3, 0], [4, 0]]
    assert task_of(rows="pair").outputs == 2
    # a Bernoulli logit as two classes
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert losses.kd(teacher, student, 1.0).item() == pytest.approx(0.067131, abs=1e-6)
    assert losses.kd(teacher, student, 2.0).item() == pytest.approx(0.105378, abs=1e-6)


def test_without_rows_labels_can_be_learned_and_logits_not_compared(source):
    task = task_of(rows="none", negatives=2)
    role = Role(MF(width=2, std=0.1, users=20, items=30), "student", task)
    rows = torch.arange(4)
    batch = task.batch(source.train, rows, source.train.inputs[rows], torch.Generator().manual_seed(0))
    assert batch.x.shape == (4, 4)
    assert task_of().gives - task.gives == {"rows"}
    output = role(batch)
    assert bool(torch.isfinite(task.label_loss(output, batch)))
    with pytest.raises(ValueError, match=r"it compares logits, and with dataset\.rows=none the scores are none"):
        _ = output.logits


def test_only_the_negatives_count_in_the_label_loss():
    scores = torch.tensor([[2.0, 1.0, 7.0, 8.0, 9.0]])
    output = ModelOutput(scores, scores, dense=scores)
    assert task_of().label_loss(output, None).item() == pytest.approx(0.313262, abs=1e-6)
    assert task_of(loss="bce").label_loss(output, None).item() == pytest.approx((0.126928 + 1.313262) / 2, abs=1e-6)


@pytest.mark.parametrize("network", [MF(width=3, std=0.1, users=20, items=30),
                                     NeuMF(width=3, widths=[6, 2], std=0.1, users=20, items=30)])
def test_all_items_are_scored_as_lists_of_them_are(source, network, monkeypatch):
    monkeypatch.setattr("kdrun.tasks.ranking.AT_ONCE", 60)
    task, rows = task_of(), torch.arange(len(source.test))
    batch = task.batch(source.test, rows, source.test.inputs)
    whole = task.predict(network, batch).logits
    assert whole.shape == (20, 30)
    assert torch.allclose(whole.gather(1, batch.x[:, 1:]), network(batch.x).logits, atol=1e-6)
    assert network(task.example(4)).embedding.shape[0] == 4


def test_the_headline_is_0_for_a_constant_and_1_for_perfect_scores(source):
    task, constant = task_of(), torch.zeros(20, 30)
    perfect = constant.scatter(1, source.test.labels, 1.0)
    assert task.measures(ModelOutput(constant, constant), source.test) == dict.fromkeys(task.measured, 0.0) | {
        "mrr": pytest.approx(1 / 25, abs=0.01)}
    assert task.measures(ModelOutput(perfect, perfect), source.test) == dict.fromkeys(task.measured, 1.0)
    # the best of nine drawn items is easier to beat than the best of all
    halfway = torch.rand(20, 30, generator=torch.Generator().manual_seed(0)) + 0.3 * perfect
    sampled = task_of(sampled=3).measures(ModelOutput(halfway, halfway), source.test)
    assert sampled["mrr"] > task.measures(ModelOutput(halfway, halfway), source.test)["mrr"]


def test_what_is_known_is_not_ranked(source):
    known = torch.zeros(20, 30).scatter(1, source.test.fields["known"].clamp_min(0), 9.0).scatter(1, source.test.labels, 1.0)
    # item 0 stands for the padding above
    assert task_of().measures(ModelOutput(known, known), source.test)["hit_rate_at_10"] == 1
