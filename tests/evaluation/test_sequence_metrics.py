import random

import pytest
import torch

from kdrun.evaluation.sequence_metrics import (
    Edits,
    clipped_accuracy,
    edits,
    macro_f1,
    segments,
    sequence_accuracy,
    total_edits,
)


def test_edits_are_counted_by_kind() -> None:
    assert edits("kitten", "sitting") == Edits(insertions=1, deletions=0, substitutions=2, length=6)
    assert edits("kitten", "sitting").rate == 0.5
    assert edits("abc", "ac") == Edits(deletions=1, length=3)
    assert edits("", "ab") == Edits(insertions=2)
    assert edits("ab", "").rate == 1.0
    assert edits("", "").rate is None


def test_the_error_rate_is_a_sum_divided_once() -> None:
    references = [[["K", "AE", "T"]], [["D", "AO", "G", "Z"]]]
    answers = [["K", "AH", "T"], ["D", "AO", "G"]]
    assert total_edits(references, answers).rate == pytest.approx(2 / 7)  # the mean of both rates would be 0.291667


def test_an_error_rate_above_one_is_an_accuracy_of_zero() -> None:
    total = edits("ab", "abcdefg")
    assert total.rate == 2.5
    assert clipped_accuracy(total) == 0.0
    assert clipped_accuracy(edits("kitten", "sitting")) == 0.5
    assert clipped_accuracy(Edits(insertions=1)) is None


def test_of_several_references_the_nearest_counts_with_its_length() -> None:
    assert total_edits([["abcd", "xy", "zy"]], ["xz"]) == Edits(substitutions=1, length=2)
    assert total_edits([["abc", "abcd"]], ["abx"]).length == 3
    assert total_edits([[""], ["ab"]], ["a", "ab"]).rate == 0.5  # an empty one adds its insertions above, nothing below


def test_an_answer_is_right_if_it_is_one_of_the_references() -> None:
    assert sequence_accuracy([[[1, 2], [3]], [[1]]], [(3,), (1, 1)]) == 0.5
    assert sequence_accuracy([], []) is None


def test_the_distance_is_symmetric_and_obeys_the_triangle() -> None:
    draws = random.Random(0)
    first, second, third = ([draws.choices("abc", k=draws.randint(0, 6)) for _ in range(50)] for _ in range(3))
    for a, b, c in zip(first, second, third, strict=True):
        assert edits(a, b).distance == edits(b, a).distance
        assert edits(a, c).distance <= edits(a, b).distance + edits(b, c).distance
        assert edits(a, b).length - edits(a, b).deletions + edits(a, b).insertions == len(b)


def test_segments_are_runs_without_gaps() -> None:
    assert segments([10, 10, 3, 3, 10, 3, 7, 7, 7, 10], gap=10) == [3, 3, 7]
    assert segments([], gap=10) == segments([10], gap=10) == []


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    draws = torch.Generator().manual_seed(0)
    answers, labels = (torch.randint(4, (60,), generator=draws) for _ in range(2))  # class 4 occurs nowhere
    assert macro_f1(answers, labels, 5) == pytest.approx(f1_score(labels, answers, average="macro"))
    assert macro_f1(labels[:0], labels[:0], 5) is None
