import pytest
import torch
from torch import Tensor, nn

from kdrun.data.sequences import Sequences
from kdrun.evaluation.metrics import flops
from kdrun.models.recurrent import LSTM, BiLSTM, FramesMLP, SequenceNet

COMMON = {"embedding": 5, "dropout": 0.0}
KINDS = ["lstm", "bilstm", "frames_mlp"]


def network(kind: str, *, classes: int = 3, per_place: bool = True, **sizes: int) -> SequenceNet:
    given = {**COMMON, "classes": classes, "per_place": per_place, **(sizes or {"features": 4})}
    torch.manual_seed(0)
    return FramesMLP(widths=[6, 5], reach=2, **given) if kind == "frames_mlp" else \
        {"lstm": LSTM, "bilstm": BiLSTM}[kind](width=6, layers=2, **given)


def frames(lengths: tuple[int, ...] = (5, 1, 3), padding: int = 0) -> Sequences:
    """Random frames whose padding is not zero, so that whoever looks at it is found out."""
    count = max(lengths) + padding
    values = torch.full((len(lengths), count, 4), 7.0)
    values[:, :max(lengths)] = torch.randn(len(lengths), max(lengths), 4, generator=torch.Generator().manual_seed(1))
    return Sequences(values, torch.arange(count) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_place", [True, False])
def test_padding_changes_no_answer_and_no_gradient(kind: str, per_place: bool) -> None:
    def answers(inputs: Sequences) -> tuple[list[Tensor], list[Tensor]]:
        net = network(kind, per_place=per_place)
        output = net(inputs)
        places = inputs.mask.sum(dim=1).max()
        seen = [output.logits[inputs.mask] if per_place else output.logits, output.embedding,
                *(stage[..., :places] for stage in (*output.stages, *output.preacts))]
        assert all((stage[..., places:] == 0).all() for stage in (*output.stages, *output.preacts))
        sum((value.square().sum() for value in seen), torch.zeros(())).backward()
        return seen, [weight.grad for weight in net.parameters() if weight.grad is not None]

    for plain, padded in zip(answers(frames()), answers(frames(padding=3)), strict=True):
        for first, second in zip(plain, padded, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_answered_alike_alone_and_in_a_batch(kind: str) -> None:
    net, batch = network(kind), frames()
    alone = net(Sequences(batch.values[2:, :3], batch.mask[2:, :3]))
    torch.testing.assert_close(net(batch).logits[2:, :3], alone.logits)


@pytest.mark.parametrize(("kind", "sees"), [("lstm", [2, 3, 4]), ("bilstm", [0, 1, 2, 3, 4]), ("frames_mlp", [0, 1, 2, 3, 4])])
def test_which_places_see_a_place(kind: str, sees: list[int]) -> None:
    net, batch = network(kind), frames((5,))
    changed = batch.values.clone()
    changed[0, 2] += 1
    moved = (net(Sequences(changed, batch.mask)).logits - net(batch).logits).abs().amax(dim=2)[0] > 1e-7
    assert moved.nonzero()[:, 0].tolist() == sees


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_read_and_answered_once_a_sequence(kind: str) -> None:
    net = network(kind, per_place=False, vocabulary=9)
    output = net(Sequences.padded(torch.tensor([[3, 8, 1], [2, 0, 0], [0, 0, 0]]), torch.tensor([3, 1, 0])))
    assert output.logits.shape == (3, 3)
    assert output.stem is not None
    assert output.stem.shape == (3, 5, 1, 3)
    assert (output.embedding[2] == 0).all()  # nothing to read is no error
    assert output.logits.isfinite().all()


@pytest.mark.parametrize(("net", "parameters"), [
    (BiLSTM(width=64, layers=1, features=8, classes=11, per_place=True, **COMMON), 39_307),
    (BiLSTM(width=8, layers=1, features=8, classes=11, per_place=True, **COMMON), 1_339),
    (LSTM(width=16, layers=1, features=8, classes=11, per_place=True, **COMMON), 1_851),
    (FramesMLP(widths=[16], reach=5, features=8, classes=11, per_place=True, **COMMON), 1_611),
])
def test_sizes(net: nn.Module, parameters: int) -> None:
    assert sum(weight.numel() for weight in net.parameters()) == parameters


def test_operations_are_counted_inside_the_recurrence() -> None:
    net = BiLSTM(width=6, layers=1, features=4, classes=3, per_place=True, **COMMON)
    assert flops(net, frames((5,))) == 5 * 2 * (2 * 4 * 6 * (4 + 6) + 12 * 3)


def test_a_hint_trains_what_leads_to_its_stage() -> None:
    net = network("bilstm")
    loss = net(frames()).stages[0].square().sum()
    loss.backward()
    trained = {name for name, weight in net.named_parameters() if weight.grad is not None}
    assert trained == {name for part in net.until(1) for prefix, module in net.named_modules() if module is part
                       for name in (f"{prefix}.{own}" for own, _ in part.named_parameters())}
