import torch
from torch import nn

from kdrun.models.sequence_layers import Recurrence, SequenceFront, masked_mean

LENGTHS = torch.tensor([5, 1, 3])
MASK = torch.arange(6) < LENGTHS[:, None]


def test_both_directions_answer_as_packed_sequences_do() -> None:
    torch.manual_seed(0)
    layer, packed = Recurrence(4, 6, both=True), nn.LSTM(4, 6, batch_first=True, bidirectional=True)
    for direction, end in ((layer.onward, ""), (layer.backward_, "_reverse")):
        assert direction is not None
        for name, weight in direction.named_parameters():
            getattr(packed, name + end).data.copy_(weight.data)
    values = torch.randn(3, 6, 4)
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed(nn.utils.rnn.pack_padded_sequence(
        values, LENGTHS, batch_first=True, enforce_sorted=False))[0], batch_first=True, total_length=6)
    torch.testing.assert_close(layer(values, MASK), expected)


def test_a_mean_is_of_what_is_there() -> None:
    values = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [99.0], [99.0]]])
    assert masked_mean(values, torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()).tolist() == [[2.0], [0.0]]


def test_tokens_are_looked_up_and_frames_taken_as_they_are() -> None:
    tokens = SequenceFront(embedding=2, vocabulary=9, features=None)(torch.randint(1, 9, (3, 6)), MASK)
    frames = SequenceFront(embedding=2, vocabulary=None, features=4)(torch.ones(3, 6, 4), MASK)
    assert tokens.shape == (3, 6, 2)
    assert torch.equal(frames, MASK[..., None].float().expand(3, 6, 4))
    assert (tokens[~MASK] == 0).all()
