"""Networks of ranking: their scores by hand, their parameters, what they show."""

import pytest
import torch

from kdrun.models.recommenders import MF, NeuMF


def test_matrix_factorisation_is_a_product_and_a_popularity():
    network = MF(width=2, std=0.1, users=2, items=3)
    assert sum(weight.numel() for weight in network.parameters()) == 2 * 2 + 3 * 2 + 3
    with torch.no_grad():
        network.user.weight.copy_(torch.tensor([[1.0, 2], [0, 1]]))
        network.item.weight.copy_(torch.tensor([[1.0, 1], [2, 0], [0, -1]]))
        network.popularity.weight.copy_(torch.tensor([[0.5], [0], [1]]))
    output = network(torch.tensor([[0, 0, 2], [1, 1, 0]]))
    assert output.logits.tolist() == [[3.5, -1], [0, 1.5]]
    assert output.embedding.tolist() == [[1, 2, 1, 1], [0, 1, 2, 0]]


def test_the_neural_form_scores_each_pair_by_itself():
    network = NeuMF(width=3, widths=[6, 4, 2], std=0.1, users=5, items=7)
    assert sum(weight.numel() for weight in network.parameters()) == (5 + 7) * (3 + 3) + 6 * 6 + 6 + 6 * 4 + 4 + 4 * 2 + 2 + 6
    pairs = torch.tensor([[1, 0, 6, 3], [4, 2, 2, 5]])
    output = network(pairs)
    assert output.embedding.shape == (2, 12)
    each = torch.cat([network(pairs[:, [0, place]]).logits for place in (1, 2, 3)], dim=1)
    assert torch.allclose(output.logits, each, atol=1e-6)
    assert torch.allclose(output.logits[1, 0], output.logits[1, 1], atol=1e-6)
    assert torch.allclose(network(pairs.flip(0)).logits, output.logits.flip(0), atol=1e-6)


@pytest.mark.parametrize("widths", [[], [5, 2]])
def test_the_first_layer_has_a_half_for_users_and_one_for_items(widths):
    with pytest.raises(ValueError, match="wanted a first layer of an even width"):
        NeuMF(width=3, widths=widths, std=0.1, users=5, items=7)
