"""Students of few bits: steps, ranges that learn, a soft share that falls, and maps on the same levels."""

import pytest
import torch
from torch import nn, tensor

from kdrun.methods.losses.feature import hint
from kdrun.models.description import describe
from kdrun.models.quantization import Learned, LearnedInput, Stepped, least_squares_step, rounded
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64


def test_the_best_step_in_closed_form():
    weights = tensor([-1.0, 0.1, 0.8, 1.2], dtype=F64)  # -1, 0, 1 and 1 times (1 + 0.8 + 1.2) / 3
    assert least_squares_step(weights, 1).item() == pytest.approx(1.0)
    assert least_squares_step(3 * weights, 1).item() == pytest.approx(3.0)
    assert least_squares_step(torch.zeros(4, dtype=F64), 3).isfinite()


def test_multiples_of_a_step_and_their_gradient():
    quantizer = Stepped(tensor([-1.0, 0.1, 0.8, 1.2], dtype=F64), 2)
    weights = tensor([-3.0, -0.6, 0.4, 0.9], dtype=F64, requires_grad=True)
    seen = quantizer(weights)
    assert seen.tolist() == pytest.approx([-1, -1, 0, 1])
    seen.sum().backward()
    assert weights.grad.tolist() == [1, 1, 1, 1]
    assert quantizer.stored_bits(1000) == 2032


def test_a_range_learns_by_what_lies_beyond_it_and_by_what_is_rounded():
    quantizer = Learned(tensor([1.0], dtype=F64), 2).double()  # levels -r, 0 and r
    assert quantizer.reach.item() == pytest.approx(2.0)
    weights = tensor([5.0, 1.5, -0.4], dtype=F64, requires_grad=True)
    seen = quantizer(weights)
    assert seen.tolist() == pytest.approx([2, 2, 0])
    seen.sum().backward()
    assert weights.grad.tolist() == pytest.approx([0, 1, 1])
    assert quantizer.reach.grad.item() == pytest.approx(1 + (1 - 0.75) + (0 + 0.2))  # a level less its place, below the end


def test_inputs_from_zero_to_a_range():
    part = LearnedInput(1)
    part.start(tensor([0.5, 1.5]))
    assert part.reach.item() == pytest.approx(2.0)
    assert part(tensor([-1.0, 0.9, 1.1, 7.0])).tolist() == pytest.approx([0, 0, 2, 2])


def test_maps_on_one_level_cost_nothing():
    step = tensor(0.5, dtype=F64)
    teacher, student = tensor([[[[0.9]], [[2.0]]]], dtype=F64), tensor([[[[1.2]], [[2.2]]]], dtype=F64, requires_grad=True)
    assert hint(rounded(teacher, step), rounded(student, step)).item() == pytest.approx(0)
    assert hint(rounded(teacher, step), rounded(student + 0.5, step)).item() == pytest.approx((0.25 + 0.25) / 2)


def test_the_soft_share_falls_to_nothing():
    method = toy_run("gslr", "offline", "method.soft_start=0.8").method
    shares = [method.soft_weight(epoch, 5) for epoch in range(5)]
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])
    assert method.soft_weight(0, 1) == 0


def test_a_ternary_student_has_three_weights_a_layer():
    run = toy_run("gslr", "offline")
    distill(run)
    layers = [part for part in run.networks.student.modules() if isinstance(part, nn.Conv2d)][1:]
    assert all(len(layer.weight.unique()) <= 3 for layer in layers)
    assert run.networks.student.network.stored_size().bits < 32 * sum(w.numel() for w in run.networks.student.parameters())


def test_who_learns_in_which_phase_of_qkd():
    run = toy_run("qkd", "offline", "method.self_share=0.5", "method.tutor_share=0.5", "method.activation_bits=2")
    teacher = run.networks.teacher
    teacher.register_forward_pre_hook(lambda *_: pytest.fail("self-studying asked the teacher"))
    phases = run.method.phases(run)
    assert next(phases).name == "self-studying"
    assert next(iter(run.method.alone(run.networks, next(iter(run.stream.epoch(0, 1))))))
    other = toy_run("qkd", "offline", "method.self_share=0.0", "method.tutor_share=0.5")
    before, first = state(other.networks.teacher), state(other.networks.student)
    distill(other)
    assert list(other.trained) == ["co-studying", "tutoring"]
    tutor, final = other.method.trained_networks(other.networks)["tutor"], other.networks.teacher
    assert any(not torch.equal(before[key], value) for key, value in tutor.state_dict().items())
    assert all(torch.equal(value, final.state_dict()[key]) for key, value in tutor.state_dict().items())
    last = other.networks.student.state_dict()
    assert any(key.endswith("input_quantizer.reach") for key in last)
    assert any(not torch.equal(first[key], last[key]) for key in first)
    pictures = torch.randn(3, *other.data.shape)
    network = other.networks.student.network.eval()
    again = describe(network, other.data, "student", "made").build().eval()
    again.load_state_dict(network.state_dict())
    assert torch.allclose(again(pictures).logits, network(pictures).logits, atol=1e-5)


def test_shares_of_more_than_all_epochs_are_refused():
    with pytest.raises(ValueError, match="above 1"):
        toy_run("qkd", "offline", "method.self_share=0.7", "method.tutor_share=0.5")


def test_the_mimicked_teacher_learns_with_its_rounded_map_alone():
    run = toy_run("quant_mimic", "offline", "method.step=1000.0")
    before = state(run.networks.teacher)
    distill(run)
    assert run.method.distance.item() > 0
    assert any(not torch.equal(before[key], value) for key, value in run.networks.teacher.state_dict().items())
    assert [row[5] for row in run.history if row[4] == "mimicry"] == pytest.approx([0, 0])  # both maps are zero
