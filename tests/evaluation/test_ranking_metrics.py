"""Ranking measures on numbers that can be computed by hand, and against scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import ndcg_score

from kdrun.evaluation import ranking_metrics as measure

EVERYTHING = torch.empty(1, 0, dtype=torch.long)


def places(*ranks: int) -> torch.Tensor:
    return torch.tensor([ranks])


@pytest.mark.parametrize(("rank", "top", "expected"), [(3, 10, 0.5), (10, 10, 0.289065), (11, 10, 0.0), (1, 1, 1.0)])
def test_leave_one_out(rank, top, expected):
    assert measure.ndcg(places(rank), top) == pytest.approx(expected, abs=1e-6)
    assert measure.hit_rate(places(rank), top) == float(rank <= top)
    assert measure.recall(places(rank), top) == float(rank <= top)
    assert measure.mean_reciprocal_rank(places(rank)) == pytest.approx(1 / rank)


@pytest.mark.parametrize(("ranks", "expected"), [((1, 3, 50), 0.703918), ((1, 3), 0.919721)])
def test_several_held_out_items(ranks, expected):
    assert measure.ndcg(places(*ranks), 10) == pytest.approx(expected, abs=1e-6)
    assert measure.recall(places(*ranks), 10) == pytest.approx(2 / len(ranks))
    assert measure.hit_rate(places(*ranks), 10) == 1
    assert measure.mean_reciprocal_rank(places(*ranks)) == 1


def test_fewer_places_than_held_out_items():
    assert measure.ndcg(places(1, 2, 9), 2) == pytest.approx(1.0)


def test_users_without_a_held_out_item_do_not_count():
    both = torch.tensor([[2, 4], [0, 0]])
    assert measure.ndcg(both, 10) == measure.ndcg(both[:1], 10)
    assert measure.hit_rate(both[1:], 10) is None


def test_ranks_leave_out_what_is_known_and_put_ties_last():
    scores = torch.tensor([[5.0, 4, 3, 3, 1]])
    assert measure.ranks(scores, torch.tensor([[2]]), measure.candidates(EVERYTHING, 5)).tolist() == [[4]]
    assert measure.ranks(scores, torch.tensor([[2]]), measure.candidates(torch.tensor([[0, -1]]), 5)).tolist() == [[3]]
    assert measure.ranks(scores, torch.tensor([[2, 3, -1, 4]]), measure.candidates(EVERYTHING, 5)).tolist() == [[3, 4, 0, 5]]


def test_constant_scores_are_worth_nothing_and_perfect_ones_everything():
    held_out = torch.arange(4)[:, None]
    allowed = measure.candidates(torch.full((4, 1), -1), 101)
    constant = measure.ranks(torch.zeros(4, 101), held_out, allowed)
    assert measure.ndcg(constant, 10) == measure.hit_rate(constant, 10) == 0
    assert measure.ndcg(measure.ranks(torch.eye(4, 101), held_out, allowed), 10) == 1


def test_scores_that_are_nan_are_refused():
    with pytest.raises(ValueError, match="1 of 2 users have scores that are NaN"):
        measure.ranks(torch.tensor([[0.0, math.nan], [0, 1]]), torch.zeros(2, 1, dtype=torch.long),
                      torch.ones(2, 2, dtype=torch.bool))


def test_as_scikit_learn_where_no_scores_tie():
    draws = torch.Generator().manual_seed(0)
    scores, relevant = torch.rand(7, 30, generator=draws), torch.rand(7, 30, generator=draws) < 0.2
    relevant[:, 0] = True
    held_out = torch.full((7, 30), -1)
    for row, own in enumerate(relevant):
        held_out[row, :int(own.sum())] = own.nonzero()[:, 0]
    ranked = measure.ranks(scores, held_out, torch.ones(7, 30, dtype=torch.bool))
    assert measure.ndcg(ranked, 10) == pytest.approx(ndcg_score(relevant.numpy(), scores.numpy(), k=10))
    # of two equal scores scikit-learn takes the average, which is not what a measure of tied networks should do
    assert ndcg_score([[1, 0]], [[0.0, 0.0]], k=1) == 0.5
    assert measure.ndcg(measure.ranks(torch.zeros(1, 2), torch.tensor([[0]]), torch.ones(1, 2, dtype=torch.bool)), 1) == 0


def test_a_whole_set_is_its_batches_merged():
    ranked = torch.randint(1, 30, (9, 1), generator=torch.Generator().manual_seed(1))
    parts = [measure.ndcg(part, 10) * len(part) for part in ranked.split(4)]
    assert sum(parts) / 9 == pytest.approx(measure.ndcg(ranked, 10))


def test_sampled_candidates():
    allowed = measure.candidates(torch.tensor([[0, 1], [2, -1]]), 8)
    held_out = torch.tensor([[3], [4]])
    chosen = measure.sampled_candidates(allowed, held_out, 3, torch.Generator().manual_seed(0))
    assert chosen.sum(dim=1).tolist() == [4, 4]
    assert chosen.gather(1, held_out).all()
    assert not (chosen & ~allowed).any()
    everything = measure.sampled_candidates(allowed, held_out, 99, torch.Generator().manual_seed(0))
    assert torch.equal(everything, allowed)
