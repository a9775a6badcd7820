"""Likes: who is held out, what the generated ones are made of, and files as MovieLens has them."""

import pytest
import torch

from kdrun.data.feedback import implicit, leave_one_out, movielens
from kdrun.evaluation import ranking_metrics

TASK = {"loss": "bpr", "negatives": 1, "rows": "list", "candidates": 5, "sampled": 0}


def test_the_last_two_likes_are_held_out_where_there_are_three():
    users, items = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2]), torch.tensor([5, 3, 4, 1, 0, 1, 7, 6, 5])
    train, validation, test = leave_one_out(users, items)
    liked = list(zip(train.inputs.tolist(), train.labels[:, 0].tolist(), strict=True))
    assert liked == [(0, 5), (0, 3), (1, 0), (1, 1), (2, 7)]
    assert (validation.inputs.tolist(), validation.labels.tolist()) == ([0, 2], [[4], [6]])
    assert (test.inputs.tolist(), test.labels.tolist()) == ([0, 2], [[1], [5]])
    assert validation.fields["known"].tolist() == [[5, 3, -1, -1], [7, -1, -1, -1]]
    assert test.fields["known"].tolist() == [[5, 3, 4, -1], [7, 6, -1, -1]]


def generated(**changes):
    return implicit(**({"users": 200, "items": 150, "factors": 4, "temperature": 0.25, "fewest": 5, "most": 9, "seed": 0}
                       | changes), **TASK)


def test_generated_likes_are_distinct_and_the_same_for_one_seed():
    first, second, other = generated(), generated(), generated(seed=1)
    assert torch.equal(first.train.labels, second.train.labels)
    assert not torch.equal(first.test.labels, other.test.labels)
    count = torch.bincount(first.train.inputs)
    assert (int(count.min()), int(count.max()), len(first.test)) == (3, 7, 200)
    pairs = torch.cat([part.inputs * 150 + part.labels[:, 0] for part in (first.train, first.validation, first.test)])
    assert len(pairs.unique()) == len(pairs)
    assert (first.info["users"], first.info["items"], len(first.classes)) == (200, 150, 5)


def test_likes_follow_preferences_and_at_a_high_temperature_chance():
    def popularity(source):
        counts = torch.bincount(source.train.labels[:, 0], minlength=150).float().expand(200, -1)
        known = ranking_metrics.candidates(source.test.fields["known"], 150)
        return ranking_metrics.ndcg(ranking_metrics.ranks(counts, source.test.labels, known), 10)

    assert popularity(generated()) > 0.2
    assert popularity(generated(temperature=100.0)) < 0.1


def test_users_cannot_like_more_than_there_is():
    with pytest.raises(ValueError, match=r"a user cannot like 5 to 9 of 9 items; wanted fewest <= most < items"):
        generated(items=9)


RATINGS = [(7, 30, 5, 3), (7, 10, 4, 1), (7, 20, 4, 2), (7, 40, 3, 9), (8, 10, 5, 1), (8, 20, 1, 1), (9, 40, 2, 1)]


@pytest.mark.parametrize(("name", "between", "head"), [("ratings.csv", ",", "userId,movieId,rating,timestamp\n"),
                                                       ("ratings.dat", "::", ""), ("u.data", "\t", "")])
def test_files_as_movielens_has_them(tmp_path, name, between, head):
    (tmp_path / name).write_text(head + "".join(between.join(map(str, line)) + "\n" for line in RATINGS))
    source = movielens(root=str(tmp_path), liked=4.0, **TASK)
    assert list(zip(source.train.inputs.tolist(), source.train.labels[:, 0].tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert (source.validation.labels.tolist(), source.test.labels.tolist()) == ([[1]], [[2]])
    assert (source.info["users"], source.info["items"]) == (2, 4)  # nobody liked 40, and it may be recommended all the same


@pytest.mark.parametrize(("text", "reason"), [
    ("1\t2\tfive\t4\n", "wanted user, item, rating and timestamp, all numbers"),
    ("", "nobody in .* rates three items at 4 or above; set dataset.liked"),
    ("1\t2\t5\t4\n", "nobody in .* rates three items at 4 or above; set dataset.liked"),
])
def test_files_that_are_of_no_use(tmp_path, text, reason):
    (tmp_path / "u.data").write_text(text)
    with pytest.raises(ValueError, match=reason):
        movielens(root=str(tmp_path), liked=4.0, **TASK)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"has none of ratings\.csv, ratings\.dat, u\.data; set dataset\.root"):
        movielens(root=str(tmp_path), liked=4.0, **TASK)
