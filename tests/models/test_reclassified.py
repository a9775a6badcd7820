"""Networks with another classifier: cosines with one or more proxies a class, read before or after the last activation."""

import math

import pytest
import torch
from torch import tensor

from kdrun.models.cosine import CosineHead
from kdrun.models.description import describe
from kdrun.models.reclassified import reclassify
from kdrun.models.roles import Role
from tests.models.test_sizes import parameters
from tests.models.test_zoo import build
from tests.toy import prepared

PICTURES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_cosines_with_one_and_with_two_proxies():
    head = CosineHead(2, 2, 3.0, learned=True)
    head.weight.data = tensor([[2.0, 0.0], [0.0, 5.0]])
    assert head(tensor([[3.0, 4.0]])).tolist()[0] == pytest.approx([1.8, 2.4])
    head(tensor([[3.0, 4.0]])).sum().backward()
    assert float(head.scale.grad) == pytest.approx(1.4)
    two = CosineHead(2, 1, 1.0, proxies=2)
    two.weight.data = tensor([[2.0, 0.0], [0.0, 5.0]])
    share = math.exp(0.6) / (math.exp(0.6) + math.exp(0.8))
    assert float(two(tensor([[3.0, 4.0]])).detach()) == pytest.approx(share * 0.6 + (1 - share) * 0.8)


@pytest.mark.parametrize("signed", [False, True])
def test_it_is_built_again_from_its_description_without_the_classifier_it_had(signed):
    data = prepared(("kd",)).data
    role = Role(build("cnn", (1, 8, 8)), "student", data.task, "cnn").eval()
    role.network.built_from = {"_target_": "kdrun.models.plain.CNN", "widths": [16, 32, 64]}
    before, whole = role.network(PICTURES), parameters(role.network)
    reclassify(role, CosineHead(64, 10, 4.0, learned=True, proxies=2), signed)
    assert parameters(role.network) == whole - 650 + 20 * 64 + 1
    answer = role.network(PICTURES)
    seen = before.preacts[-1].mean(dim=(2, 3)) if signed else before.embedding
    assert torch.equal(answer.embedding, seen)
    told = describe(role.network, data, "student", "cnn")
    again = type(told).read(told.metadata).build().eval()
    again.load_state_dict(role.network.state_dict())
    assert torch.equal(again(PICTURES).logits, answer.logits)


def test_a_network_without_maps_cannot_be_read_before_its_activation():
    role = Role(build("resnet8", (1, 8, 8)), "student", prepared(("kd",)).data.task, "resnet8")
    output = role.network.forward
    role.network.forward = lambda pictures: output(pictures).replace(stages=(), preacts=())
    with pytest.raises(ValueError, match="its embedding is not the mean of a map"):
        reclassify(role, CosineHead(64, 10, 1.0), signed=True)
