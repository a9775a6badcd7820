"""Multi-exit distillation: its temperature, its terms and its exits."""

import pytest
import torch
import torch.nn.functional as F

from kdrun.methods.branches import exit_answers
from kdrun.training.loop import distill
from tests.toy import rows_of, toy_experiment, toy_run


def ready(*words):
    run = toy_run("multi_exit", "self", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def test_temperature_rises_where_the_last_exit_is_sure_and_never_falls():
    method = ready()[0].method
    sure = torch.tensor([[0.6, 0.4]]).log()
    method.warm(sure)
    assert method.temperature.item() == pytest.approx(1.05)
    method.warm(torch.zeros(4, 10))
    assert method.temperature.item() == pytest.approx(1.05)
    for _ in range(50):
        method.warm(10 * sure)  # until it is not sure any more at this temperature
    assert 1.05 < method.temperature.item() < 1.05**51


def test_terms_by_hand():
    run, batch = ready("method.distill_share=0.25", "method.temperature=2", "method.scale=6")
    terms = run.method.loss(run.networks, batch)
    end = run.networks.student(batch)
    exits = exit_answers(end, run.method.exits)
    wanted = (end.logits / 2).softmax(1)
    soft = sum(-(wanted * (one.logits / 2).log_softmax(1)).sum(1).mean() for one in exits)
    hard = sum(F.cross_entropy(one.logits, batch.labels) for one in exits)
    assert terms["ce"].item() == pytest.approx(2 * 0.75 * F.cross_entropy(end.logits, batch.labels).item(), rel=1e-4)
    assert terms["exits"].item() == pytest.approx(2 * 0.75 * hard.item(), rel=1e-4)
    assert terms["kd"].item() == pytest.approx(2 * 0.25 * 4 * soft.item(), rel=1e-4)
    weights = list(run.networks.student.network.head.parameters())
    assert all(one is None for one in torch.autograd.grad(terms["kd"], weights, allow_unused=True))  # it teaches


def test_the_temperature_is_part_of_what_is_trained(tmp_path):
    run = toy_run("multi_exit", "self", "method.threshold=0", folder=tmp_path)
    distill(run)
    steps = 2 * len(run.stream)
    assert run.method.temperature.item() == pytest.approx(1.05**steps, rel=1e-4)
    again = toy_run("multi_exit", "self", "method.threshold=0", folder=tmp_path)
    distill(again)  # only loads
    assert torch.equal(again.method.temperature, run.method.temperature)


def test_exits_get_rows(tmp_path):
    rows = rows_of(toy_experiment("multi_exit", tmp_path))
    assert list(rows) == ["baseline", "student", "exit 1", "exit 2"]
    assert rows["exit 1"]["flops"] < rows["exit 2"]["flops"]
