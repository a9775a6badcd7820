"""Networks that write sequences: shapes, padding that changes nothing, and decoders that see no symbol to come."""

import pytest
import torch
from torch import Tensor, nn

from kdrun.data.sequences import Sequences
from kdrun.models.output import ModelOutput
from kdrun.models.seq2seq import Seq2Seq
from kdrun.models.transformer_seq2seq import TransformerSeq2Seq

CLASSES, VOCABULARY, SOURCE, TARGET = 5, 8, 4, 3


@pytest.fixture(params=["seq2seq", "transformer_seq2seq"])
def network(request) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "seq2seq":
        return Seq2Seq(width=8, layers=2, embedding=6, dropout=0.0, classes=CLASSES, vocabulary=VOCABULARY)
    return TransformerSeq2Seq(width=8, layers=2, heads=2, expansion=2, kernel=3, dropout=0.0, classes=CLASSES,
                              vocabulary=VOCABULARY)


def inputs_of(source_padding: int = 0, target_padding: int = 0) -> Sequences:
    """Three sources of 4, 1 and 2 tokens; prefixes of 3, 2 and 1 (an empty target: the start alone)."""
    values = torch.tensor([[3, 5, 2, 7], [4, 0, 0, 0], [2, 6, 0, 0]])
    prefix = torch.tensor([[1, 3, 6], [1, 4, 0], [1, 0, 0]])
    values, prefix = (nn.functional.pad(part, (0, more)) for part, more in ((values, source_padding), (prefix, target_padding)))
    return Sequences(values, values > 0, prefix)


def loss_of(output: ModelOutput, inputs: Sequences) -> Tensor:
    """Something of every part of the output that counts."""
    assert inputs.prefix is not None
    maps = sum(stage.square().sum() for stage in (*output.stages, *output.preacts, output.stem))
    attentions = sum(one.square().sum() for one in output.attentions)
    return output.logits[inputs.prefix > 0].log_softmax(1)[:, 0].sum() + output.embedding.sum() + maps + attentions


def test_the_output_has_a_place_for_each_token_of_the_prefix(network):
    output, width = network(inputs_of()), 8
    assert output.logits.shape == (3, TARGET, CLASSES)
    assert output.embedding.shape == (3, width)
    assert output.mask.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    assert {stage.shape for stage in output.stages} == {(3, width, 1, TARGET)}
    assert output.stem.shape[2:] == (1, TARGET)
    for maps in (*output.stages, *output.preacts, output.stem):
        assert not maps[2, :, :, 1:].any()
        assert maps[2, :, :, 0].any()
    for attention in output.attentions:
        torch.testing.assert_close(attention.sum(dim=3), output.mask[:, None].float().expand(-1, 2, -1))


def test_more_padding_changes_neither_the_output_nor_a_gradient(network):
    found = []
    for inputs in (inputs_of(), inputs_of(2, 3)):
        network.zero_grad()
        loss = loss_of(network(inputs), inputs)
        loss.backward()
        found.append((loss.detach(), {name: weight.grad.clone() for name, weight in network.named_parameters()}))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_a_place_sees_nothing_of_the_symbols_to_come(network):
    changed = inputs_of()
    changed.prefix[0, 2] = 4
    before, after = network(inputs_of()).logits, network(changed).logits
    torch.testing.assert_close(before[0, :2], after[0, :2])
    assert not torch.allclose(before[0, 2], after[0, 2])


def test_every_weight_learns_and_sources_do_not_mix(network):
    inputs = inputs_of()
    output = network(inputs)
    loss_of(output, inputs).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())
    order = torch.tensor([2, 0, 1])
    mixed = network(inputs.map(lambda part: part[order]))
    torch.testing.assert_close(mixed.logits, output.logits[order])


def test_an_empty_source_gives_no_nan(network):
    inputs = inputs_of()
    empty = Sequences(inputs.values * 0, inputs.mask & False, inputs.prefix)
    assert network(empty).logits.isfinite().all()


def test_the_parts_up_to_a_stage_hold_every_weight_that_it_needs(network):
    output = network(inputs_of())
    for number, stage in enumerate(output.stages, start=1):
        network.zero_grad(set_to_none=True)
        stage.square().sum().backward(retain_graph=True)
        parts = {id(weight) for part in network.until(number) for weight in part.parameters()}
        assert {id(weight) for weight in network.parameters() if weight.grad is not None} <= parts


@pytest.mark.parametrize(("kind", "changes", "line"), [
    (Seq2Seq, {"width": 7, "embedding": 4}, "width is 7"),
    (TransformerSeq2Seq, {"width": 8, "heads": 3, "expansion": 1, "kernel": 3}, "heads=3"),
    (TransformerSeq2Seq, {"width": 8, "heads": 2, "expansion": 1, "kernel": 2}, "kernel is 2"),
])
def test_what_does_not_fit_is_refused(kind, changes, line):
    with pytest.raises(ValueError, match=line):
        kind(layers=1, dropout=0.0, classes=CLASSES, vocabulary=VOCABULARY, **changes)
