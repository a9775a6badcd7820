"""FN: answers to embeddings of one length, and networks that it is not for."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.losses.response import feature_normalised
from kdrun.models.plain import CNN
from tests.toy import toy_experiment, toy_run


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("clip", [True, False])
def test_known_lengths(clip):
    weight, bias = draw(3, 2), draw(3, seed=1)
    embedding = torch.tensor([[3.0, 4.0], [0.3, 0.4]], dtype=torch.float64)
    brought = torch.tensor([[1.2, 1.6], [0.3, 0.4] if clip else [1.2, 1.6]], dtype=torch.float64)
    answer = feature_normalised(embedding @ weight.T + bias, embedding, bias, 2.0, clip)
    assert torch.allclose(answer, brought @ weight.T + bias, atol=1e-9)


def test_the_length_of_an_embedding_does_not_matter():
    weight, embedding = draw(3, 2), draw(4, 2, seed=1)
    answers = [feature_normalised(scale * embedding @ weight.T, scale * embedding, None, 2.0, False) for scale in (1, 7)]
    assert torch.allclose(*answers, atol=1e-9)


def test_equal_networks_are_left_with_the_entropy():
    run = toy_run("fn", "offline", "student.widths=[6,8,12]", "method.weight=1")
    student, teacher = run.networks.student, run.networks.teacher
    student.network.load_state_dict(teacher.network.state_dict())
    student.eval()
    run.method.setup(run.networks, run.data)
    batch = next(run.stream.epoch(0, 1))
    answer = run.method.answer(teacher, batch, 0)
    entropy = soft_cross_entropy(answer, answer).item()
    assert run.method.loss(run.networks, batch)["fn"].item() == pytest.approx(entropy, abs=1e-6)


def test_a_network_whose_classifier_sees_no_embedding_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kdrun.models.plain.CNN.forward", widened(CNN.forward))
    with pytest.raises(ConfigError, match="the teacher cnn has no linear layer from its embedding to its logits"):
        toy_experiment("fn", tmp_path)


def widened(forward):
    """A network whose embedding is not what its classifier sees."""
    def answer(network, pictures):
        output = forward(network, pictures)
        return output.replace(embedding=output.embedding.repeat(1, 2))
    return answer
