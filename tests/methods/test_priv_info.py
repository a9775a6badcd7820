"""Privileged information: the loss in numbers, and the four generated cases of the paper, two of which must gain nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, tensor

from kdrun.data.batch import Batch
from kdrun.methods.cross_modal.priv_info import PrivilegedInformation
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.toy import toy_run

F64 = torch.float64


def method(**changes):
    usual = {"imitation": 0.5, "temperature": 2.0, "student_temperature": "same", "squared": True, "pool_ratio": 3}
    return PrivilegedInformation(**(usual | changes))


@pytest.mark.parametrize(("student_temperature", "wanted"), [("same", 1.3737), ("one", 1.3210)])
def test_numbers(student_temperature, wanted):
    teacher, student = tensor([[2.0, 0.0]], dtype=F64), tensor([[1.0, 0.0]], dtype=F64)
    own = method(student_temperature=student_temperature)
    total = 0.5 * F.cross_entropy(student, tensor([0])) + 0.5 * own.soft(teacher, student)
    assert float(total) == pytest.approx(wanted, abs=5e-5)


def test_without_imitation_the_labels_alone_and_with_nothing_else_the_teacher(factory, data):
    networks = Networks(factory().student(), [frozen(factory().student())])
    batch = Batch(torch.randn(8, *data.shape), torch.arange(8) % 4)
    terms = method(imitation=0.0).loss(networks, batch)
    ce = F.cross_entropy(networks.student.network(batch.x).logits, batch.y)
    assert [float(terms[name].detach()) for name in ("ce", "soft")] == pytest.approx([float(ce.detach()), 0], rel=1e-5)
    assert float(method(imitation=1.0).loss(networks, batch)["ce"].detach()) == 0


def test_samples_without_labels_take_part_in_the_soft_term():
    run = toy_run("priv_info", "offline", "dataset.base.labelled=20")
    distill(run)
    batch = next(run.stream.epoch(0, 1))
    few = run.method.loss(run.networks, batch)
    batch.pool = next(run.pool(16, 1).epoch(0, 1))
    more = run.method.loss(run.networks, batch)
    assert float(more["ce"].detach()) == float(few["ce"].detach())
    assert float(more["soft"].detach()) != float(few["soft"].detach())
    assert set(batch.pool.views) == {"teacher"}


def cases(case: int, count: int, draws: torch.Generator, alpha: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the paper's section 5.1: x, the privileged description of it, and the label."""
    x = torch.randn(count, 50, generator=draws)
    if case == 1:  # how far from the boundary: clean labels
        better = x @ alpha[:, None]
        return x, better, (better[:, 0] + torch.randn(count, generator=draws) > 0).long()
    if case == 2:  # clean features, which the student cannot have
        return x + torch.randn(count, 50, generator=draws), x, (x @ alpha > 0).long()
    if case == 3:  # which three matter, the same for all
        return x, x[:, chosen], (x[:, chosen] @ alpha[chosen] > 0).long()
    own = torch.rand(count, 50, generator=draws).argsort(dim=1)[:, :3]  # which three matter differs, and nobody says which
    better = x.gather(1, own)
    return x, better, ((better * alpha[own]).sum(dim=1) > 0).long()


def fitted(x: Tensor, loss) -> tuple[Tensor, Tensor]:
    """A logistic regression, by Newton-like full batches."""
    weight, bias = torch.zeros(x.shape[1], 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(x @ weight + bias) + 1e-3 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    return weight.detach(), bias.detach()


@pytest.mark.parametrize(("case", "gains"), [(1, True), (2, False), (3, True), (4, False)])
def test_the_papers_generated_cases(case, gains):
    alone, taught, soft = [], [], method(imitation=1.0, temperature=1.0)
    for seed in range(3):
        draws = torch.Generator().manual_seed(seed)
        alpha, chosen = torch.randn(50, generator=draws), torch.randperm(50, generator=draws)[:3]
        x, better, y = cases(case, 200, draws, alpha, chosen)
        test_x, _, test_y = cases(case, 4000, draws, alpha, chosen)
        weight, bias = fitted(better, lambda logits, y=y: F.cross_entropy(logits, y))
        target = better @ weight + bias
        for rows, loss in ((alone, lambda logits, y=y: F.cross_entropy(logits, y)),
                           (taught, lambda logits, target=target: soft.soft(target, logits))):
            weight, bias = fitted(x, loss)
            rows.append(float(((test_x @ weight + bias).argmax(1) == test_y).double().mean()))
    gain = sum(taught) / 3 - sum(alone) / 3
    assert gain > 0.04 if gains else abs(gain) < 0.03
