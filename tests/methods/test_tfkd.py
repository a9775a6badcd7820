"""Teacher-free distillation in both forms: numbers, and who teaches."""

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.config import registry
from kdrun.methods.losses import kd
from kdrun.methods.losses.response import smoothed_labels
from kdrun.methods.self_taught.tfkd_reg import TfKDReg
from kdrun.methods.self_taught.tfkd_self import TfKDSelf
from kdrun.training.loop import distill
from tests.toy import prepared, state, toy_run

F64 = torch.float64


def made_up(target, temperature=20.0, **weights):
    return TfKDReg(confidence=0.99, temperature=temperature, target=target, reference=None, scaling="none",
                   **({"ce_weight": 0.9, "kd_weight": 0.1} | weights))


def test_the_designed_teacher():
    answers = smoothed_labels(tensor([3, 0]), 100, 0.99)
    assert answers.sum(1).tolist() == pytest.approx([1, 1])
    assert answers[0, 3].item() == pytest.approx(0.99)
    assert answers[1, 1:].tolist() == pytest.approx([0.01 / 99] * 99)


@pytest.mark.parametrize(("target", "label", "other"), [("code", 0.010502, 0.009995), ("tempered", 0.015741, None)])
def test_what_is_matched(target, label, other):
    """Gradient descent's fixed point is the target, so the gradient at even answers tells it."""
    student = torch.zeros(1, 100, dtype=F64, requires_grad=True)
    method = made_up(target)
    (slope,) = torch.autograd.grad(method.soft(tensor([7]), student), student)
    scale = 1.0 if target == "code" else 20.0
    matched = (0.01 - scale * slope)[0]
    assert matched[7].item() == pytest.approx(label, abs=1e-6)
    assert matched.sum().item() == pytest.approx(1, abs=1e-9)
    assert matched[0].item() == pytest.approx(other or (1 - label) / 99, abs=1e-6)


def test_no_weight_is_the_labels_alone():
    ends = []
    for key, *more in (("vanilla",), ("tfkd_reg", "method.kd_weight=0", "method.ce_weight=1")):
        run = toy_run(key, "self", *more)
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_sure_student_is_finite_and_pulled_back():
    student = tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    for target in ("code", "tempered"):
        (slope,) = torch.autograd.grad(made_up(target).soft(tensor([0]), student), student)
        assert torch.isfinite(slope).all()
        assert slope[0, 0] > 0


def test_the_authors_reduction_is_ours_times_classes_over_their_multiplier():
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 100, dtype=F64), torch.randn(5, 100, dtype=F64)
    pointwise = F.kl_div(F.log_softmax(student / 6, 1), F.softmax(teacher / 6, 1), reduction="none")
    theirs = 0.95 * 50 * 36 * pointwise.mean()  # over samples and classes
    settings = registry.load("method", "tfkd_self")
    assert float(settings["kd_weight"] * kd(teacher, student, settings["temperature"])) == pytest.approx(float(theirs))


def test_the_baseline_teaches_and_stays_as_it_is(tmp_path):
    toy = prepared(("tfkd_self", f"outputs={tmp_path}"))
    baseline = toy.alone(toy.student, "baseline")
    run = toy.run_of("student", "student", toy.method(), toy.scheme(), toy.factory())
    assert isinstance(run.method, TfKDSelf)
    first = state(run.networks.student.network)
    distill(run)
    teacher, wanted = run.networks.teacher.network.state_dict(), baseline.network.state_dict()
    assert all(torch.equal(wanted[name], teacher[name]) for name in wanted)
    assert any(not torch.equal(wanted[name], first[name]) for name in wanted)  # trained, and not the student's start
    assert len(list((tmp_path / "store").glob("*/entry.json"))) == 1


def test_a_student_like_its_teacher_has_no_soft_term(factory, data):
    from kdrun.data.batch import Batch
    from kdrun.models.roles import Networks, frozen

    student = factory().student()
    student.eval()
    terms = TfKDSelf(temperature=6.0, ce_weight=0.05, kd_weight=0.475, reference=None, scaling="none").loss(
        Networks(student, [frozen(student)]), Batch(torch.randn(4, *data.shape), tensor([0, 1, 2, 3])))
    assert float(terms["kd"].detach()) == pytest.approx(0, abs=1e-6)
