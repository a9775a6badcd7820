import itertools
import math

import pytest
import torch
from torch import Tensor

from kdrun.tasks.decoding import ctc_beam, ctc_greedy, ctc_log_probability, ctc_nbest

TWO = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()                                   # frames of blank, a
THREE = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.5, 0.1, 0.4]]).log()      # frames of blank, a, b


def greedy(log_probs: Tensor) -> list[int]:
    return ctc_greedy(log_probs[None], torch.tensor([len(log_probs)]))[0]


def probabilities(readings: list) -> dict[tuple[int, ...], float]:
    return {reading.symbols: pytest.approx(math.exp(reading.log_probability)) for reading in readings}


def test_the_best_path_is_not_the_best_sequence() -> None:
    assert greedy(TWO) == []  # a path of probability 0.36
    assert ctc_beam(TWO, 8)[0].symbols == (1,)
    assert math.exp(ctc_beam(TWO, 8)[0].log_probability) == pytest.approx(0.64)


def test_repeats_are_merged_unless_a_blank_is_between_them() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2, 2], [2, 0, 1, 1, 1, 1]]), 3).float()
    assert ctc_greedy(logits, torch.tensor([6, 2])) == [[1, 1, 2], [2]]


def test_a_wide_beam_is_exact_and_a_narrow_one_a_lower_bound() -> None:
    assert greedy(THREE) == []
    assert probabilities(ctc_beam(THREE, 1)) == {(): 0.1}
    assert probabilities(ctc_beam(THREE, 2)) == {(1,): 0.272, (1, 2): 0.176}
    assert list(probabilities(ctc_beam(THREE, 8)).items())[:5] == \
        [((1,), 0.272), ((2,), 0.246), ((1, 2), 0.230), ((), 0.100), ((2, 1), 0.070)]
    assert sum(math.exp(reading.log_probability) for reading in ctc_beam(THREE, 100)) == pytest.approx(1)


def test_the_n_best_have_exact_probabilities() -> None:
    assert probabilities(ctc_nbest(THREE, 2, width=2)) == {(1,): 0.272, (1, 2): 0.230}
    assert [reading.symbols for reading in ctc_nbest(THREE, 5, width=8)] == [(1,), (2,), (1, 2), (), (2, 1)]


def test_the_probability_of_a_sequence_is_the_sum_over_its_paths() -> None:
    draws = torch.Generator().manual_seed(0)
    log_probs = torch.randn(4, 3, generator=draws, dtype=torch.float64).log_softmax(dim=1)
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=4):
        symbols = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)
        sums[symbols] = sums.get(symbols, 0.0) + math.exp(sum(float(log_probs[t, k]) for t, k in enumerate(path)))
    assert ctc_log_probability(log_probs, 4, sums).exp().tolist() == pytest.approx(list(sums.values()))
    assert probabilities(ctc_beam(log_probs, 100)) == sums


def test_impossible_sequences_and_no_frames() -> None:
    assert ctc_log_probability(TWO[:1], 1, [(1, 1)]).tolist() == [-math.inf]
    assert ctc_log_probability(TWO, 2, [()]).tolist() == pytest.approx([2 * math.log(0.6)])
    assert [reading.symbols for reading in ctc_nbest(TWO[:1], 9, width=9)] == [(), (1,)]
    assert ctc_beam(TWO[:0], 8)[0].symbols == ()
