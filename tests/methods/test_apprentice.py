"""Apprentice: its terms, and who learns in each variant."""

import copy

import pytest
import torch
from torch import nn, tensor

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.losses import soft_cross_entropy
from kdrun.training.loop import distill
from tests.toy import toy_experiment, toy_run

F64 = torch.float64


def test_equal_answers_have_no_gradient():
    teacher, student = tensor([[2, 0]], dtype=F64), tensor([[2, 0]], dtype=F64, requires_grad=True)
    term = soft_cross_entropy(teacher, student, train_teacher=True)
    assert term.item() == pytest.approx(0.365334, abs=1e-6)  # the entropy of softmax(2, 0)
    term.backward()
    assert student.grad.abs().max().item() == pytest.approx(0, abs=1e-12)


def test_value_and_both_gradients():
    teacher, student = (tensor(values, dtype=F64, requires_grad=True) for values in ([[2, 0]], [[0, 1]]))
    soft_cross_entropy(teacher, student, train_teacher=True).backward()
    # p_t = 0.880797, 0.119203; -log p_s = 1.313262, 0.313262
    assert soft_cross_entropy(teacher, student, train_teacher=True).item() == pytest.approx(1.194059, abs=1e-6)
    assert student.grad[0].tolist() == pytest.approx([0.268941 - 0.880797, 0.731059 - 0.119203], abs=1e-6)
    assert teacher.grad[0].tolist() == pytest.approx([0.104994, -0.104994], abs=1e-6)


@pytest.mark.parametrize("variant", ["B", "C"])
def test_the_trained_teacher_stays(variant):
    run = toy_run("apprentice", "offline", f"method.variant={variant}")
    before = copy.deepcopy(run.networks.teacher.state_dict())
    distill(run)
    assert all(torch.equal(value, before[name]) for name, value in run.networks.teacher.state_dict().items())
    assert list(run.trained) == (["full precision", "distill"] if variant == "C" else ["distill"])


@pytest.mark.parametrize("detached", [True, False])
def test_the_shared_term_moves_the_teacher_only_if_asked(detached):
    run = toy_run("apprentice", "online", f"method.detach_teacher={str(detached).lower()}")
    distill(run)
    assert any(row[4] == "teacher apprentice" for row in run.history) != detached
    assert any(row[4] == "teacher ce" for row in run.history)


def test_a_trained_student_goes_on_slowly():
    run = toy_run("apprentice", "offline", "method.variant=C", "method.finetune_lr=0.25")
    distill(run)
    rates = [run.optimizers[name]["student"].param_groups[0]["height"] for name in ("full precision", "distill")]
    assert rates == pytest.approx([run.recipe.lr, 0.25 * run.recipe.lr])


def test_weights_and_activations_are_of_few_bits():
    run = toy_run("apprentice", "offline", "method.bits=2", "method.activation_bits=1")
    distill(run)
    convolutions = [module for module in run.networks.student.modules() if isinstance(module, nn.Conv2d)]
    seen = []
    for layer in convolutions:
        layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    run.networks.student.eval()(torch.randn(4, *run.data.shape))
    assert set(convolutions[1].weight.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert set(seen[1].unique().tolist()) <= {0.0, 1.0}
    assert len(seen[0].unique()) > 2  # the first layer sees the picture as it is


def test_without_the_shared_term_it_is_training_alone():
    run = toy_run("apprentice", "offline", "method.kd_weight=0.0", "method.ce_weight=1.0")
    list(zip(run.method.phases(run), range(1), strict=False))
    batch: Batch = next(iter(run.stream.epoch(0, 1)))
    terms = run.method.loss(run.networks, batch)
    assert terms["kd"].item() == 0
    assert terms["ce"].item() == pytest.approx(run.method.label_loss(run.networks.student(batch), batch).item())


@pytest.mark.parametrize(("variant", "scheme"), [("A", "offline"), ("B", "online"), ("C", "online")])
def test_a_variant_under_the_wrong_scheme_is_refused(variant, scheme, tmp_path):
    with pytest.raises(ConfigError, match=f"variant {variant}"):
        toy_experiment("apprentice", tmp_path, f"method.variant={variant}", scheme=scheme)
