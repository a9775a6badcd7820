"""Graphs as knowledge: of teachers, of edges, of neighbours, and of who learns from whom."""

import math
import re

import pytest
import torch

from kdrun.methods.losses.graph import (
    earth_mover,
    edge_discrepancy,
    edges,
    local_structure,
    local_structures,
    nearest,
    squared_mmd,
)
from kdrun.methods.losses.response import kl
from kdrun.methods.online.kt_graph import gated
from kdrun.training.loop import distill
from tests.toy import state, toy_run

NODE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
SWAPPED, BOTH = NODE[[0, 2, 1]], torch.tensor([[1, 2]])


def test_earth_mover_is_half_the_sum_of_differences_and_moves_the_student_alone():
    teacher, student = (torch.tensor([one], dtype=torch.float64).log().requires_grad_() for one in ([.7, .2, .1], [.5, .3, .2]))
    loss = earth_mover(teacher, student)
    loss.backward()
    assert loss.item() == pytest.approx(0.2, abs=1e-12)
    assert teacher.grad is None
    assert earth_mover(student, student).item() == 0


@pytest.mark.parametrize(("kernel", "wanted"), [("laplacian", 4.85e-5), ("squared", 2.7154)])
def test_local_structures_of_swapped_neighbours(kernel, wanted):
    assert local_structure(NODE, SWAPPED, BOTH, kernel).item() == pytest.approx(wanted, rel=1e-3)


def test_local_structures_by_rbf():
    alike = torch.tensor([[math.exp(-0.2), math.exp(-0.8)]], dtype=torch.float64)  # squares 1 and 4 over twice their mean, 2.5
    assert torch.allclose(local_structures(NODE, BOTH, "rbf"), alike.log_softmax(1), atol=1e-12)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    assert local_structure(NODE, 3 * NODE @ turn, BOTH, "rbf").item() == pytest.approx(0, abs=1e-12)


def test_neighbours_are_the_nearest_others():
    assert nearest(torch.tensor([[0.0], [1.0], [1.5], [9.0]]), 2).tolist() == [[1, 2], [2, 0], [1, 0], [2, 1]]


def test_edges_are_compared_as_sets():
    teacher, student = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    for kernel in ("gaussian", "linear"):
        assert edge_discrepancy(teacher, 2 * teacher, kernel).item() == pytest.approx(0, abs=1e-12)
        assert edge_discrepancy(teacher, student, kernel).item() > 0
    first, second = edges(teacher), edges(student)
    widths = (second[:, :, None] - first[:, None, :]).square().mean(dim=(1, 2))
    by_hand = [squared_mmd(first[row, :, None], second[row, :, None], [widths[row].item()]) for row in range(5)]
    assert edge_discrepancy(teacher, student).item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-12)
    same = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)  # no gap at all
    edge_discrepancy(torch.ones(4, 2, dtype=torch.float64), same).backward()
    assert same.grad.isfinite().all()


def test_gates():
    teacher, student = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    right = teacher.argmax(dim=1)
    labels = torch.cat([right[:2], (right[2:] + 1) % 3])
    each = torch.stack([kl(teacher[[row]], student[[row]]) for row in range(4)])
    assert gated(teacher, student, labels, "through", 0.5, 1.0).item() == pytest.approx(each.mean().item(), rel=1e-12)
    assert gated(teacher, student, labels, "correct", 0.5, 1.0).item() == pytest.approx(each[:2].sum().item() / 4, rel=1e-12)
    assert gated(teacher, student, labels, "linear", 0.0, 1.0).item() == 0


def test_two_nodes_that_teach_each_other_are_deep_mutual_learning():
    graph = toy_run("kt_graph", "offline", "method.gates=[[through,through,cutoff],[through,through,cutoff]]")
    mutual = toy_run("dml", "online")
    for run in (graph, mutual):
        distill(run)
    wanted, got = (state(run.networks.student) for run in (mutual, graph))
    assert all(torch.allclose(wanted[name], got[name], atol=1e-6) for name in wanted)


def test_what_is_cut_off_is_not_asked():
    run = toy_run("kt_graph", "offline", "method.gates=[[through,through,cutoff],[linear,correct,cutoff]]")
    next(iter(run.method.phases(run)))
    run.networks.teachers[0].register_forward_hook(lambda *_: pytest.fail("the teacher was asked"))
    batch = next(run.stream.epoch(0, 1))
    terms = dict(run.method.step(run.networks, batch))
    assert {player: sorted(own) for player, own in terms.items()} == {"student": ["ce", "from node 2"],
                                                                      "peer 2": ["ce", "from node 1"]}
    assert terms["peer 2"]["from node 1"].item() == 0  # at the start


@pytest.mark.parametrize(("gates", "told"), [
    ("[[through,through],[through,through]]", "rows of [2, 2] gates; wanted 2 rows of 3, for 2 learning nodes and 1 teacher"),
    ("[[through,through,cutoff],[cutoff,cutoff,cutoff]]", "cuts off every edge to node 2, so it learns nothing"),
])
def test_gates_that_fit_no_graph_are_refused(gates, told):
    run = toy_run("kt_graph", "offline")
    run.method.gates = [row.split(",") for row in gates[2:-2].split("],[")]
    with pytest.raises(ValueError, match=re.escape(told)):
        next(iter(run.method.phases(run)))


def test_the_better_teacher_weighs_more():
    run = toy_run("graph_zp", "offline", "teachers=[cnn,mlp]")
    next(iter(run.method.phases(run)))
    batch = next(run.stream.epoch(0, 1))
    answers = [teacher(batch) for teacher in run.networks.teachers]
    shares = run.method.shares([answers[0].replace(logits=100.0 * torch.eye(10)[batch.labels]), answers[1]], batch)
    assert shares.sum().item() == pytest.approx(1, abs=1e-6)
    assert shares[0] > shares[1]
    assert run.method.shares(answers[:1], batch).tolist() == [1]


def test_a_structure_may_count_for_a_share_of_the_training():
    run = toy_run("lsp_gcn", "offline", "method.share=0.5")
    batches = [next(run.stream.epoch(epoch, 2)) for epoch in range(2)]
    assert ["structure" in run.method.loss(run.networks, batch) for batch in batches] == [True, False]
