"""Novel classes by few samples and a graph of classes."""

import pytest
import torch

from kdrun.methods.lifelong.ktn import GraphNetwork, novel_weights
from kdrun.methods.losses import unit_rows
from kdrun.training.loop import distill
from tests.toy import state, toy_run


def test_without_a_graph_it_is_the_nearest_class_mean_by_direction():
    supports = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    weights = novel_weights(supports, torch.randn(2, 2), 0.0)
    torch.testing.assert_close(weights, torch.tensor([[0.5**0.5, 0.5**0.5], [-1.0, 0.0]]))


def test_classes_that_are_alone_are_told_one_by_one_and_all_weights_are_of_unit_length():
    torch.manual_seed(0)
    vectors = torch.randn(4, 3)
    network = GraphNetwork(torch.eye(4), [3, 5, 5, 2], dropout=0.5, slope=0.2).eval()
    layers = [torch.nn.functional.linear(vectors, network.layers[0].weight)]
    for layer in list(network.layers)[1:]:
        layers.append(torch.nn.functional.linear(torch.nn.functional.leaky_relu(layers[-1], 0.2), layer.weight))
    torch.testing.assert_close(network(vectors), unit_rows(layers[-1]))
    torch.testing.assert_close(network(vectors).norm(dim=1), torch.ones(4))


def test_the_graph_leaves_the_student_and_novel_classes_change_their_own_rows_alone():
    run = toy_run("ktn", "self")
    phases, held = run.method.phases(run), {}

    def told():
        for phase in phases:
            held[phase.name] = state(run.networks.student)
            yield phase
    run.method.phases = lambda _: told()
    distill(run)
    last, before = run.networks.student.state_dict(), held["graph"]
    changed = [name for name, value in before.items() if not torch.equal(value, last[name])]
    assert changed == ["network.head.weight"]
    assert torch.equal(before["network.head.weight"][:6], last["network.head.weight"][:6])
    torch.testing.assert_close(last["network.head.weight"][6:].norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("word", ["method.base=10", "method.vectors=[[1.0],[0.0]]", "method.shots=[40]"])
def test_what_does_not_fit_is_refused(word):
    with pytest.raises(ValueError, match=r"wanted as many method.vectors|give method.shots at most so many"):
        toy_run("ktn", "self", word)
