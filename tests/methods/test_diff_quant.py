"""Levels that learn: their gradient, who learns, and what they take."""

import copy

import pytest
import torch
from torch import nn, tensor

from kdrun.evaluation import metrics
from kdrun.methods.quantized.diff_quant import Points, shares
from kdrun.models.quantization import QuantizedWeights
from kdrun.training.loop import distill
from tests.toy import toy_run

F64 = torch.float64


class TestPoints:
    def test_gradient(self):
        weights = tensor([1, 1, 3, 3], dtype=F64)  # scaled to 0, 0, 1, 1 by a span of 2
        points = Points(weights, 2, None)
        assert points.points.tolist() == [0, 1]
        rounded = points(weights)
        assert torch.equal(rounded, weights)
        (rounded * tensor([1, 2, 3, 4])).sum().backward()
        assert points.points.grad.tolist() == pytest.approx([6, 14], abs=1e-6)

    def test_every_bucket_scales_by_its_own_span(self):
        weights = tensor([0, 1, 0, 10], dtype=F64)
        points = Points(weights, 2, 2)
        points(weights).sum().backward()
        assert points.points.grad.tolist() == pytest.approx([11, 11], abs=1e-6)

    def test_a_weight_takes_the_nearest_point_in_any_shape(self):
        torch.manual_seed(0)
        weights = torch.rand(3, 5, dtype=F64)
        points = Points(weights, 3, None)
        span, low = weights.max() - weights.min(), weights.min()
        scaled, levels = (weights - low) / span, points.points.detach()
        wanted = levels[(scaled[..., None] - levels).abs().argmin(dim=-1)] * span + low
        assert float((points(weights).detach() - wanted).abs().max()) < 1e-9
        assert levels[[0, -1]].tolist() == pytest.approx([0, 1])  # the extremes
        assert levels[1].item() == pytest.approx(scaled.median().item())

    def test_points_that_passed_each_other_change_places(self):
        points = Points(tensor([0, 0.5, 1], dtype=F64), 3, None)
        points.points.data = tensor([0.4, 0.2, 1], dtype=F64)
        points.sort()
        assert points.points.tolist() == [0.2, 0.4, 1]

    def test_stored_bits(self):
        assert Points(torch.rand(1000), 16, 256).stored_bits(1000) == 4 * 1000 + 4 * 64 + 16 * 32
        assert Points(torch.rand(1000), 17, 256).stored_bits(1000) == 5 * 1000 + 4 * 64 + 17 * 32


def test_shares_follow_the_gradient_and_never_fall_below_half():
    assert shares([1.0, 3.0], 4) == [12, 20]
    assert shares([0.0, 5.0], 4) == [8, 24]
    assert shares([0.0, 0.0], 3) == [8, 8]
    assert min(shares([0.0, 1.0], 1)) == 2


def test_the_levels_learn_and_the_weights_stay():
    run = toy_run("diff_quant", "offline", "method.points_lr=1.0")
    student, method = run.networks.student, run.method
    phases, seen = method.phases(run), []
    method.phases = lambda _: watched()

    def watched():
        yield next(phases)
        before = copy.deepcopy(student.state_dict())
        second = next(phases)
        seen.append([quantizer.points.detach().clone() for quantizer in method.quantizers])
        yield second
        after = student.state_dict()
        learnt = [quantizer.points.detach().clone() for quantizer in method.quantizers]
        assert all(not torch.equal(one, other) for one, other in zip(seen[0], learnt, strict=True))
        assert all(torch.equal(points.sort().values, points) for points in learnt)
        for name, value in before.items():
            now = after[name if name in after else name.replace(".weight", ".parametrizations.weight.original")]
            assert torch.equal(value, now) == ("running" not in name and "num_batches" not in name), name
        yield from phases

    distill(run)
    assert seen
    layers = [module for module in student.modules() if isinstance(module, nn.Conv2d)]
    for layer, quantizer in zip(layers[1:], method.quantizers, strict=True):
        assert len(layer.weight.unique()) <= len(quantizer.points) * -(-layer.weight.numel() // 256)
    assert metrics.size(student.network).bits < 32 * sum(weight.numel() for weight in student.parameters())


def test_the_last_teacher_is_the_student_in_full_precision():
    run = toy_run("diff_quant", "offline")
    first = run.networks.teacher
    phases = run.method.phases(run)
    next(phases)
    state = copy.deepcopy(run.networks.student.state_dict())
    next(phases)
    assert run.networks.teacher is not first
    assert all(torch.equal(value, state[name]) for name, value in run.networks.teacher.state_dict().items())


def test_sizes_count_every_layer():
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 2))
    QuantizedWeights(network, ends=False, quantizers=[Points(network[1].weight.detach(), 4, None)])
    assert metrics.size(network) == (8 + 9 + 8, (32 * 19 + 2 * 6 + 64 + 128 + 7) // 8, 32 * 19 + 2 * 6 + 64 + 128)
