"""The transformer for sequences: its form, and that padding changes nothing."""

import math

import pytest
import torch

from kdrun.data.sequences import Sequences
from kdrun.models.transformer import Transformer, sinusoids

NUMBERS = {"width": 8, "depth": 2, "heads": 2, "expansion": 2, "kernel": 3, "dropout": 0.0, "pooling": "mean", "classes": 3}


def network(**changes) -> Transformer:
    torch.manual_seed(0)
    return Transformer(**(NUMBERS | {"vocabulary": 11} | changes))


def sequences(*lengths: int, length: int, features: int | None = None) -> Sequences:
    """Random tokens or frames; the same ones whatever the length they are padded to."""
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    values = torch.zeros(len(lengths), length, features) if features else torch.zeros(len(lengths), length, dtype=torch.int64)
    for row, own in enumerate(lengths):
        draws = torch.Generator().manual_seed(row)
        values[row, :own] = torch.randn(own, features, generator=draws) if features else \
            torch.randint(1, 11, (own,), generator=draws)
    return Sequences(values, mask)


def test_the_answer_has_the_promised_shapes():
    answer = network()(sequences(5, 3, length=6))
    assert answer.logits.shape == (2, 3)
    assert answer.embedding.shape == (2, 8)
    assert [stage.shape for stage in (answer.stem, *answer.stages)] == [(2, 8, 1, 6)] * 3
    assert all(before is after for before, after in zip(answer.preacts, answer.stages, strict=True))
    assert [attention.shape for attention in answer.attentions] == [(2, 2, 6, 6)] * 2
    assert network(per_place=True)(sequences(5, 3, length=6)).logits.shape == (2, 6, 3)


def test_what_is_padded_is_zero_and_attention_is_of_probabilities():
    inputs = sequences(5, 3, length=6)
    answer = network()(inputs)
    for maps in (answer.stem, *answer.stages):
        assert not maps[:, :, 0].transpose(1, 2)[~inputs.mask].any()
    for attention in answer.attentions:
        sums = attention.sum(dim=-1)
        torch.testing.assert_close(sums, inputs.mask[:, None].expand_as(sums).float())
        assert not attention[1, :, :, 3:].any()


@pytest.mark.parametrize("changes", [{}, {"pooling": "first"}, {"per_place": True}, {"kernel": 0},
                                     {"vocabulary": None, "features": 4}],
                         ids=["mean", "first", "per place", "no convolution", "frames"])
def test_padding_changes_neither_the_answer_nor_a_gradient(changes):
    found = []
    for length in (5, 9):
        own, inputs = network(**changes), sequences(5, 2, length=length, features=changes.get("features"))
        answer = own(inputs)
        logits = answer.logits[inputs.mask] if own.per_place else answer.logits
        parts = [logits, answer.embedding, answer.stem[..., :5], *(stage[..., :5] for stage in answer.stages),
                 *(attention[..., :5, :5] for attention in answer.attentions)]
        sum(part.square().sum() for part in parts).backward()
        found.append([*parts, *(weight.grad for weight in own.parameters())])
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(short, long, atol=1e-6, rtol=1e-5)


def test_the_embedding_is_the_masked_mean_or_the_first_state():
    inputs = sequences(5, 2, length=6)
    states = {pooling: network(pooling=pooling) for pooling in ("mean", "first")}
    last = states["mean"].norm(states["mean"](inputs).stages[-1][:, :, 0].transpose(1, 2))
    torch.testing.assert_close(states["mean"](inputs).embedding[1], last[1, :2].mean(dim=0))
    torch.testing.assert_close(states["first"](inputs).embedding, last[:, 0])


def test_positions_are_the_papers():
    found = sinusoids(3, 4, torch.device("cpu"))
    expected = [[0, 0, 1, 1], *([math.sin(t), math.sin(t / 100), math.cos(t), math.cos(t / 100)] for t in (1, 2))]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_hint_trains_what_leads_to_its_stage():
    own = network()
    answer = own(sequences(5, length=5))
    answer.stages[0].square().sum().backward()
    moved = {name for name, weight in own.named_parameters() if weight.grad is not None}
    leads = {id(weight) for part in own.until(1) for weight in part.parameters()}
    assert moved == {name for name, weight in own.named_parameters() if id(weight) in leads}


@pytest.mark.parametrize(("changes", "words"), [({"heads": 3}, "multiple of the 3 heads"), ({"kernel": 4}, "odd")])
def test_what_cannot_be_built_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        network(**changes)
