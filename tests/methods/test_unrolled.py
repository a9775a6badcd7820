"""Steps of SGD that can be differentiated, against numbers by hand and against PyTorch's own."""

import copy

import pytest
import torch
from torch import nn

from kdrun.methods.unrolled import SGD, Unrolled
from kdrun.models.plain import CNN


class Line(nn.Module):
    """w x, from w = 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, given):
        return self.weight * given


def test_a_step_by_hand():
    picture, rate = torch.tensor(1.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    model = Unrolled({"line": Line()})
    model.step((model("line", picture) - 1).square() / 2, SGD(rate))
    loss = (model("line", torch.tensor(2.0)) - 2).square() / 2
    assert float(model.weights[0].detach()) == 0.5
    assert float(loss.detach()) == 0.5
    assert [float(one) for one in torch.autograd.grad(loss, [picture, rate])] == [-1.0, -2.0]


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_the_optimizer_and_leave_the_module_alone(nesterov):
    torch.manual_seed(0)
    network, pictures, labels = CNN(widths=[3, 4], classes=3, channels=1), torch.randn(6, 1, 4, 4), torch.arange(6) % 3
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)

    def loss(answer):
        return nn.functional.cross_entropy(answer.logits, labels)

    loss(network(pictures)).backward()
    optimizer.step()
    before = copy.deepcopy(network.state_dict())
    weights = list(network.parameters())
    model = Unrolled({"net": network}, {weight: optimizer.state[weight]["momentum_buffer"] for weight in weights})
    settings = SGD.of(optimizer, weights)
    for _ in range(2):
        model.step(loss(model("net", pictures)), settings)
    ahead = model("net", pictures).logits
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    for _ in range(2):
        optimizer.zero_grad()
        loss(network(pictures)).backward()
        optimizer.step()
    torch.testing.assert_close(ahead, network(pictures).logits)
    torch.testing.assert_close(model.weights, list(network.parameters()))
    statistics = {name: value for (_, name), value in model.buffers.items() if "running" in name}
    torch.testing.assert_close(statistics, {name: dict(network.named_buffers())[name] for name in statistics})


def test_what_a_loss_does_not_depend_on_goes_on_by_its_momentum():
    first, second = Line(), Line()
    model = Unrolled({"first": first, "second": second}, {second.weight: torch.tensor(2.0)})
    model.step(model("first", torch.tensor(1.0)), SGD(0.5, momentum=0.5))
    assert [float(weight.detach()) for weight in model.weights] == [-0.5, -0.5]


def test_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="optimizer=sgd"):
        SGD.of(torch.optim.Adam(Line().parameters()), [])


def test_a_gradient_through_ten_steps_is_that_of_the_meta_optimizer_of_jang_et_al():
    network = nn.Module()
    network.first = nn.Parameter(torch.tensor([1.0, 3.0]))
    network.second = nn.Parameter(torch.tensor([[-1.0, -2.0], [1.0, 0.0]]))
    learned = torch.zeros(2, 2, requires_grad=True)
    model = Unrolled({"net": network})
    for _ in range(10):
        first, second = model.weights
        model.step(first.square().mean() + (learned * second.square()).sum(), SGD(0.1, momentum=0.9, decay=0.01))
    first, second = model.weights
    (found,) = torch.autograd.grad((first * second).mean(), [learned])
    torch.testing.assert_close(found, torch.tensor([[-1.1952, -7.1712], [1.1952, 0.0]]), atol=1e-4, rtol=0)  # their self-test
