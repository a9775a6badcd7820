"""Quantised weights in closed form (float64), and what they take in each unit of size."""

import pytest
import torch
from torch import nn, tensor

from kdrun.evaluation import metrics
from kdrun.models.quantization import Bucketed, QuantizedWeights, Wrpn, clipped, linear, wrpn
from kdrun.training.loop import distill
from tests.toy import rows_of, toy_experiment, toy_run

F64 = torch.float64


class TestLinear:
    weights = tensor([-1, -0.2, 0.3, 2], dtype=F64)

    def test_example(self):
        assert linear(self.weights, 2, None).tolist() == pytest.approx([-1, 0, 0, 2], abs=1e-6)

    def test_a_bucket_has_its_own_range(self):
        assert linear(self.weights, 1, 2).tolist() == pytest.approx([-1, -0.2, 0.3, 2], abs=1e-6)

    def test_a_constant_stays(self):
        constant = torch.full((3, 5), 0.37, dtype=F64)
        assert torch.equal(linear(constant, 2, 4), constant)

    def test_twice_is_once(self):
        torch.manual_seed(0)
        weights = torch.randn(7, 5, dtype=F64)
        once = linear(weights, 3, 8)
        assert float((linear(once, 3, 8) - once).abs().max()) < 1e-9
        assert all(len(bucket.unique()) <= 8 for bucket in once.flatten().split(8))

    def test_the_gradient_passes_straight_through(self):
        weights = self.weights.clone().requires_grad_()
        (linear(weights, 2, None) * tensor([1, 2, 3, 4])).sum().backward()
        assert weights.grad.tolist() == pytest.approx([1, 2, 3, 4], abs=1e-6)


def test_wrpn_has_zero_among_its_levels_and_clips():
    weights = tensor([-3, -1, -0.4, 0, 0.6, 2], dtype=F64, requires_grad=True)
    rounded = wrpn(weights, 2)
    assert rounded.tolist() == [-1, -1, 0, 0, 1, 1]
    rounded.sum().backward()
    assert weights.grad.tolist() == [0, 1, 1, 1, 1, 0]
    assert wrpn(tensor([0.5], dtype=F64), 4).item() == pytest.approx(4 / 7)  # 3.5 goes to the even one


def test_activations():
    assert clipped(tensor([-1, 0.4, 0.6, 7], dtype=F64), 1).tolist() == [0, 0, 1, 1]


class TestSize:
    def test_example(self):
        stored = Bucketed(4, 256).stored_bits(1000)
        assert stored == 4256
        assert stored / 32000 == pytest.approx(0.133)

    @pytest.mark.parametrize(("bits", "gain"), [(2, 14.22), (4, 7.529), (8, 3.879)])
    def test_gain_of_a_large_tensor(self, bits, gain):
        count = 256 * 1000
        assert 32 * count / Bucketed(bits, 256).stored_bits(count) == pytest.approx(gain, abs=5e-3)

    def test_of_a_network(self):
        network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 6), nn.Linear(6, 2))
        QuantizedWeights(network, ends=False, quantizers=lambda _: Wrpn(4))
        full = 25 + 10 + 6 + 14  # all but the 30 weights of the middle layer
        assert metrics.size(network) == (full + 30, (32 * full + 4 * 30) // 8, 32 * full + 4 * 30)

    def test_nothing_in_between(self):
        with pytest.raises(ValueError, match="quantize_first_last"):
            QuantizedWeights(nn.Linear(2, 2), ends=False, quantizers=lambda _: Wrpn(4))


def test_the_rounded_weights_are_what_remains():
    run = toy_run("quant_distill", "offline", "method.bits=2")
    distill(run)
    stem, middle, last = [module for module in run.networks.student.modules() if isinstance(module, nn.Conv2d)]
    assert isinstance(middle.weight, nn.Parameter)
    for layer, few in ((stem, False), (middle, True), (last, True)):  # the head is the network's last layer
        assert (len(layer.weight.unique()) <= 4 * -(-layer.weight.numel() // 256)) == few


@pytest.mark.parametrize("unit", ["parameters", "bytes", "bits"])
def test_the_score_follows_the_unit(unit, tmp_path):
    rows = rows_of(toy_experiment("quant_distill", tmp_path, f"measures.size_unit={unit}", "measures.alpha=0.25"))
    teacher, baseline, student = rows["teacher"], rows["baseline"], rows["student"]
    inner, everything = 4 * 6 * 9 + 6 * 8 * 9, baseline["parameters"]
    bits = 32 * (everything - inner) + 4 * inner + 64 * (1 + 2)  # one bucket of 216, two of 432
    assert (student["parameters"], student["bits"], student["bytes"]) == (everything, bits, bits // 8)
    assert student["distillation_score"] == pytest.approx(
        0.25 * student[unit] / teacher[unit] + 0.75 * (1 - student["accuracy"] / teacher["accuracy"]))
    assert student["size_reduction_pct"] == pytest.approx(100 * (1 - student[unit] / teacher[unit]))
