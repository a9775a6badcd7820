"""Greedy and beam search: on tables of probabilities that can be followed by hand, and on both networks with first weights."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from kdrun.data.sequences import Sequences
from kdrun.models.seq2seq import Seq2Seq
from kdrun.models.transformer_seq2seq import TransformerSeq2Seq
from kdrun.tasks.generation import NOTHING, Hypotheses, beam_search, greedy, length_penalty, longest

END, A, B = 0, 1, 2


class Table:
    """Answers a prefix of classes by a table of probabilities; the state is the prefix."""

    def __init__(self, table: dict[tuple[int, ...], list[float]]) -> None:
        self.table = table

    def encode(self, inputs: Sequences) -> tuple[Tensor, ...]:
        return (torch.zeros(len(inputs), 0, dtype=torch.long),)

    def step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        prefix = torch.cat([state[0], tokens[:, None]], dim=1)
        rows = [self.table.get(tuple(token - 2 for token in row[1:]), [1.0, 0.0, 0.0]) for row in prefix.tolist()]
        return torch.tensor(rows).log(), (prefix,)


class Recomputed:
    """A network whose every step reads the whole prefix anew."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def encode(self, inputs: Sequences) -> tuple[Tensor, ...]:
        return inputs.values, inputs.mask, torch.zeros(len(inputs), 0, dtype=torch.long)

    def step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        values, mask, prefix = state
        prefix = torch.cat([prefix, tokens[:, None]], dim=1)
        return self.network(Sequences(values, mask, prefix)).logits[:, -1], (values, mask, prefix)


def one_source() -> Sequences:
    return Sequences(torch.ones(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))


def sources(extra: int = 0) -> Sequences:
    """Five sources of 1 to 5 tokens, with so much padding more."""
    values = torch.randint(1, 8, (5, 5), generator=torch.Generator().manual_seed(3)).tril()
    values = torch.nn.functional.pad(values, (0, extra))
    return Sequences(values, values > 0)


def found(hypotheses: Hypotheses, row: int = 0) -> list[tuple[list[int], float, bool]]:
    """(symbols, probability, finished) of a source's hypotheses, those that it lacks left out."""
    return [([one for one in symbols if one != NOTHING], math.exp(log_prob), finished) for symbols, log_prob, finished in
            zip(hypotheses.symbols[row].tolist(), hypotheses.log_probs[row].tolist(), hypotheses.finished[row].tolist(),
                strict=True) if log_prob > -math.inf]


NETWORKS = [Seq2Seq(width=8, layers=2, embedding=6, dropout=0.0, classes=5, vocabulary=8),
            TransformerSeq2Seq(width=8, layers=2, heads=2, expansion=2, kernel=3, dropout=0.0, classes=5, vocabulary=8)]


@pytest.fixture(params=NETWORKS, ids=["seq2seq", "transformer_seq2seq"])
def network(request) -> torch.nn.Module:
    """With large weights, so that what it writes depends on the source."""
    torch.manual_seed(0)
    for weight in request.param.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    return request.param.eval()


def test_a_wider_beam_finds_what_the_likeliest_first_symbol_hides():
    """Step 1: A .6, B .4; step 2: after A at best .35, after B .9."""
    table = Table({(): [0.0, 0.6, 0.4], (A,): [0.35, 0.33, 0.32], (B,): [0.9, 0.05, 0.05]})
    assert found(greedy(table, one_source())) == [([A], pytest.approx(0.21), True)]
    assert found(beam_search(table, one_source(), 1)) == [([A], pytest.approx(0.21), True)]
    assert found(beam_search(table, one_source(), 2))[0] == ([B], pytest.approx(0.36), True)


def test_the_length_penalty_prefers_longer_sequences():
    assert float(length_penalty(torch.tensor(4), 0.6)) == pytest.approx(1.275425, abs=1e-6)
    table = Table({(): [0.5, 0.5, 0.0], (A,): [0.1, 0.0, 0.9], (A, B): [1.0, 0.0, 0.0]})  # .5 for "", .45 for "A B"
    assert found(beam_search(table, one_source(), 3))[0][0] == []
    assert found(beam_search(table, one_source(), 3, exponent=0.6))[0][0] == [A, B]


def test_equals_go_to_the_first_class():
    table = Table({(): [0.2, 0.4, 0.4]})
    assert found(greedy(table, one_source()))[0][0] == found(beam_search(table, one_source(), 1))[0][0] == [A]


def test_a_beam_as_wide_as_there_are_sequences_finds_them_all(network):
    classes, length = 5, 3
    everything = beam_search(network, sources(), 200, limit=torch.full((5,), length))
    for row in range(5):
        hypotheses = found(everything, row)
        finished = [symbols for symbols, _, done in hypotheses if done]
        unfinished = [symbols for symbols, _, done in hypotheses if not done]
        shorter = [list(one) for n in range(length) for one in itertools.product(range(1, classes), repeat=n)]
        assert sorted(finished) == sorted(shorter)
        assert sorted(unfinished) == sorted(map(list, itertools.product(range(1, classes), repeat=length)))
        assert sum(p for _, p, _ in hypotheses) == pytest.approx(1, abs=1e-5)
        assert [done for *_, done in hypotheses] == [True] * len(shorter) + [False] * len(unfinished)  # flagged, at the end


def test_a_beam_of_one_is_greedy(network):
    wide, narrow = beam_search(network, sources(), 1), greedy(network, sources())
    assert [found(wide, row) for row in range(5)] == [
        [(symbols, pytest.approx(p, rel=1e-4), done) for symbols, p, done in found(narrow, row)] for row in range(5)]
    assert len({str(found(narrow, row)) for row in range(5)}) > 1  # and says something about its source


@pytest.mark.parametrize("search", [greedy, lambda *args: beam_search(*args, 3)], ids=["greedy", "beam"])
def test_sources_together_are_sources_one_by_one(network, search):
    together, padded = search(network, sources()), search(network, sources(extra=3))
    for row in range(5):
        source = sources()
        alone = search(network, Sequences(source.values[row:row + 1, :row + 1], source.mask[row:row + 1, :row + 1]))
        expected = [(symbols, pytest.approx(p, rel=1e-3), done) for symbols, p, done in found(alone)]
        assert found(together, row) == expected
        assert found(padded, row) == expected


@pytest.mark.parametrize("search", [greedy, lambda *args: beam_search(*args, 3)], ids=["greedy", "beam"])
def test_a_state_that_is_carried_on_is_the_whole_prefix_read_anew(network, search):
    carried, anew = search(network, sources()), search(Recomputed(network), sources())
    assert torch.equal(carried.symbols, anew.symbols)
    torch.testing.assert_close(carried.log_probs, anew.log_probs, rtol=1e-4, atol=1e-4)


def test_a_sequence_that_does_not_end_stops_at_twice_its_source_and_ten():
    table = Table({(A,) * n: [0.0, 1.0, 0.0] for n in range(20)})
    assert longest(sources().mask).tolist() == [12, 14, 16, 18, 20]
    for hypotheses in (greedy(table, one_source()), beam_search(table, one_source(), 2)):
        assert found(hypotheses) == [([A] * 12, pytest.approx(1), False)]


def test_nothing_at_all_can_be_written(network):
    nothing = greedy(network, sources(), limit=torch.zeros(5, dtype=torch.long))
    assert nothing.symbols.shape == (5, 1, 0)
    assert not nothing.finished.any()
