"""DarkRank: rankings of a batch and how probable they are."""

import itertools
import math

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.losses.ordering import darkrank_hard, darkrank_soft, ranking_scores, top_candidates
from tests.toy import toy_experiment


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equally_near_candidates_are_as_good_as_a_coin():
    even = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]).double()
    scores = ranking_scores(even, scale=3, power=3)
    for loss in (darkrank_hard(scores, scores), darkrank_soft(scores, scores, 2)):
        assert loss.item() == pytest.approx(math.log(2))


def test_hard_form_by_hand():
    teacher, student = draw(5, 5), draw(5, 5, seed=1)
    total = 0.0
    for query in range(5):
        others = sorted((row for row in range(5) if row != query), key=lambda row: -teacher[query, row])[:3]
        for place in range(3):
            left = sum(math.exp(student[query, row]) for row in others[place:])
            total -= math.log(math.exp(student[query, others[place]]) / left)
    assert darkrank_hard(teacher, student, 3).item() == pytest.approx(total / 5)
    assert darkrank_hard(teacher, student).item() == pytest.approx(darkrank_hard(teacher, student, 4).item())


def test_soft_form_is_least_at_the_teacher_and_there_its_entropy():
    teacher = draw(6, 6)
    rows = top_candidates(teacher, 3)
    entropy = 0.0
    for query in range(6):
        for order in itertools.permutations(rows[query].tolist()):
            chance = 1.0
            for place in range(3):
                chance *= math.exp(teacher[query, order[place]]) / sum(math.exp(teacher[query, row]) for row in order[place:])
            entropy -= chance * math.log(chance) / 6
    assert darkrank_soft(teacher, teacher, 3).item() == pytest.approx(entropy)
    assert all(darkrank_soft(teacher, teacher + 0.3 * draw(6, 6, seed=seed), 3).item() > entropy for seed in range(1, 4))


def test_duplicates_do_not_take_the_querys_place():
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert top_candidates(ranking_scores(twins, 3, 3), 1).flatten().tolist() == [1, 0, 0]


def test_turns_and_sizes_change_nothing_and_dead_rows_have_finite_gradients():
    teacher, student = draw(5, 3), draw(5, 4, seed=1)
    turned = 7 * student @ torch.linalg.qr(draw(4, 4, seed=2))[0]
    values = [darkrank_soft(ranking_scores(teacher, 12.25, 4), ranking_scores(one, 12.25, 4), 3).item()
              for one in (student, turned)]
    assert values[0] == pytest.approx(values[1])
    dead = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    darkrank_hard(ranking_scores(teacher, 3, 3), ranking_scores(dead, 3, 3)).backward()
    assert torch.isfinite(dead.grad).all()


def test_soft_form_of_all_candidates_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="length is null, and form=soft compares all orders"):
        toy_experiment("darkrank", tmp_path, "method.length=null")
