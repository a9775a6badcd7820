"""Simple losses of answers: each on numbers that can be computed by hand."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun import functional as KD
from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.response.noisy_teacher import NoisyTeacher, noisy
from kdrun.methods.self_taught.label_smooth import LabelSmooth
from kdrun.methods.self_taught.skd_embed import EmbeddingSKD
from kdrun.training.loop import distill
from tests.toy import prepared, state, toy_experiment, toy_run

F64 = torch.float64


def ends(*runs):
    """What the students have become."""
    found = []
    for run in runs:
        distill(run)
        found.append(run.networks.student.state_dict())
    return found


def same(first, second):
    return all(torch.equal(first[name], value) for name, value in second.items())


# --- conditional -----------------------------------------------------------------------------------------------------

def test_a_teacher_that_is_always_right_or_never():
    labels, student = tensor([0, 1, 2, 0]), torch.randn(4, 3, dtype=F64)
    right = F.one_hot(labels, 3).to(F64)
    soft, hard = KD.conditional(right, student, labels)
    assert float(hard) == 0
    assert float(soft) == pytest.approx(float(KD.soft_cross_entropy(right, student)))
    soft, hard = KD.conditional(right.roll(1, 1), student, labels)
    assert float(soft) == 0
    assert float(hard) == pytest.approx(float(F.cross_entropy(student, labels)))
    half = torch.cat([right[:2], right[2:].roll(1, 1)])
    wanted = (KD.soft_cross_entropy(right[:2], student[:2]) + F.cross_entropy(student[2:], labels[2:])) / 2
    assert float(sum(KD.conditional(half, student, labels))) == pytest.approx(float(wanted))
    hot = KD.conditional(right, student, labels, temperature=3.0)[0]
    assert float(hot) == pytest.approx(9 * float(KD.soft_cross_entropy(right, student, 3.0)))


# --- DIST ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("temperature", "wanted"), [(1.0, 1.5), (7.0, 49 * 1.5)])
def test_correlations_of_shifted_classes(temperature, wanted):
    student = 2 * torch.eye(3, dtype=F64)
    parts = KD.dist(student.roll(1, 1), student, temperature)
    assert [float(part) for part in parts] == pytest.approx([wanted] * 2, rel=1e-6)


def test_correlations_do_not_depend_on_scale_and_mean_of_probabilities():
    teacher = torch.randn(6, 4, dtype=F64)
    assert [float(part) for part in KD.dist(teacher, teacher, 4.0)] == pytest.approx([0, 0], abs=1e-4)
    flat = (0.3 * teacher.softmax(1) + 0.7 / 4).log()  # 0.3 p + a constant, which sums to 1
    assert [float(part) for part in KD.dist(teacher, flat, 1.0)] == pytest.approx([0, 0], abs=1e-5)


def test_a_class_that_does_not_vary_counts_one_and_has_a_finite_gradient():
    student = torch.zeros(3, 2, dtype=F64, requires_grad=True)
    inter, intra = KD.dist(tensor([[1.0, 0.0]] * 3, dtype=F64), student, 1.0)
    assert (inter.item(), intra.item()) == (1, 1)
    (slope,) = torch.autograd.grad(inter + intra, student)
    assert torch.isfinite(slope).all()
    nothing = torch.zeros(0, 2, requires_grad=True)
    assert [part.item() for part in KD.dist(nothing.detach(), nothing, 1.0)] == [0, 0]


# --- noise -----------------------------------------------------------------------------------------------------------

def test_noise_adds_half_its_variance_times_the_chosen_logits():
    logits, draws = torch.randn(20_000, 3, dtype=F64) + 1, torch.Generator().manual_seed(0)
    moved = noisy(logits, 0.3, 0.5, draws)
    assert float((moved != logits).any(1).double().mean()) == pytest.approx(0.3, abs=0.02)
    wanted = KD.logit_mse(logits, 2 * logits) + 0.3 * 0.25 / 2 * logits.square().sum(1).mean()
    assert float(KD.logit_mse(moved, 2 * logits)) == pytest.approx(float(wanted), rel=0.02)


@pytest.mark.parametrize("off", ["method.share=0", "method.spread=0"])
def test_without_noise_it_regresses_logits(off):
    plain = toy_run("logit_mse", "offline", "method.reduction=sum_class", "method.weight=1", "method.ce_weight=0")
    assert same(*ends(plain, toy_run("noisy_teacher", "offline", off)))


def test_the_softened_target_of_a_noisy_teacher():
    teacher, student = torch.randn(5, 4), torch.randn(5, 4)
    method = NoisyTeacher(share=1.0, spread=0.5, target="softened", temperature=2.0, weight=3.0, ce_weight=0.0)
    method.random = torch.Generator().manual_seed(4)
    said = SimpleNamespace(student=lambda _: SimpleNamespace(logits=student), teacher=lambda _: SimpleNamespace(logits=teacher))
    wanted = noisy(teacher, 1.0, 0.5, torch.Generator().manual_seed(4))
    term = method.loss(said, Batch(torch.zeros(5), torch.zeros(5, dtype=torch.long)))["teacher"]
    assert float(term) == pytest.approx(3 * float(KD.kd(wanted, student, 2.0)))


# --- label smoothing -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("share", "variant", "wanted"), [
    (0.1, "uniform", 0.490753), (0.1, "offclass", 0.540753), (0.0, "uniform", 0.340753), (0.075, "offclass", 0.490753)])
def test_smoothed_labels(share, variant, wanted):
    student, batch = SimpleNamespace(logits=tensor([[2.0, 0, 0, 0]], dtype=F64)), Batch(torch.zeros(1), tensor([0]))
    terms = LabelSmooth(share=share, variant=variant).loss(SimpleNamespace(student=lambda _: student), batch)
    assert float(sum(terms.values())) == pytest.approx(wanted, abs=1e-6)


def test_labels_are_not_smoothed_twice(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe.label_smoothing=0.1 smooths the labels already; set it to 0"):
        toy_experiment("label_smooth", tmp_path, "recipe.label_smoothing=0.1")


# --- targets from embeddings -----------------------------------------------------------------------------------------

def nearness(variance=0.0):
    method = EmbeddingSKD(weight=0.5, start_share=0.5, momentum=0.9)
    method.register_buffer("variance", tensor(variance, dtype=F64))
    return method


def test_targets_fall_with_distance():
    embedding, classes = torch.randn(3, 2, dtype=F64), torch.randn(4, 2, dtype=F64)
    alike = nearness().target(embedding, classes[:1].expand(4, 2))
    assert torch.allclose(alike, torch.full_like(alike, 0.25))
    sharp = nearness(1e-9)
    sharp.momentum = 1.0
    assert torch.allclose(sharp.target(classes, classes), torch.eye(4, dtype=F64))
    method = nearness()
    method.target(tensor([[0.0, 0.0]], dtype=F64), tensor([[1.0, 0.0], [0.0, 3.0]], dtype=F64))
    assert float(method.variance) == 5  # the mean of 1 and 9; from now on a running one
    target = method.target(tensor([[1.0, 0.0]], dtype=F64), tensor([[1.0, 0.0], [1.0, 1.0]], dtype=F64))
    assert float(method.variance) == pytest.approx(0.9 * 5 + 0.1 * 0.5)
    assert target[0, 0].item() == pytest.approx(1 / (1 + torch.tensor(-1 / (2 * 4.55)).exp().item()))


def test_targets_begin_late_and_end_at_their_weight():
    assert [nearness().share(epoch, 4) for epoch in range(4)] == [0, 0, 0.25, 0.5]


def test_without_weight_it_is_the_labels_alone():
    assert same(*ends(toy_run("vanilla", "self"), toy_run("skd_embed", "self", "method.weight=0")))


# --- a teacher, or its influence, that stops early -------------------------------------------------------------------

def test_an_influence_that_never_ends_and_one_that_never_begins():
    plain, whole, none, alone = ends(
        toy_run("kd", "offline"), toy_run("es_kd", "offline", "method.teacher_share=1"),
        toy_run("es_kd", "offline", "method.teacher_share=1", "method.soft_share=0"), toy_run("vanilla", "offline"))
    assert same(plain, whole)
    assert same(none, alone)


def test_the_influence_ends_in_between():
    run = toy_run("es_kd", "offline", "method.soft_share=0.5")
    distill(run)
    assert [epoch for _, _, epoch, _, name, _ in run.history if name == "kd"] == [0]  # of two


def test_the_stopped_teacher_is_the_one_of_a_shorter_training(tmp_path):
    toy = prepared(("es_kd", f"outputs={tmp_path}", "method.teacher_share=0.5"))
    run = toy.run_of("student", "student", toy.method(), toy.scheme(), toy.factory())
    list(run.method.phases(run))
    taught_by = run.networks.teacher.network.state_dict()
    short = prepared(("kd", f"outputs={tmp_path}", "recipe.epochs=1"))
    assert same(short.alone(short.teacher_specs[0], "teacher").network.state_dict(), taught_by)
    assert not same(toy.alone(toy.teacher_specs[0], "teacher").network.state_dict(), taught_by)


# --- function matching -----------------------------------------------------------------------------------------------

def test_both_see_the_same_mixture_and_labels_do_not_count():
    run = toy_run("funmatch", "offline")
    next(iter(run.method.phases(run)))
    batch = next(iter(run.stream.epoch(0, 1)))
    seen = []
    for role in run.networks:
        role.register_forward_pre_hook(lambda _, asked: seen.append(asked[0].x))
        role.eval()
    term = run.method.loss(run.networks, batch)["kd"]
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], batch.x)
    assert torch.equal(seen[0], run.method.mixing.mixed(batch.x, 0, 0)[0])
    batch.y = torch.full_like(batch.y, -1)
    assert torch.equal(run.method.loss(run.networks, batch)["kd"], term)
    run.networks.teachers = [run.networks.student]
    assert float(run.method.loss(run.networks, batch)["kd"].detach()) == pytest.approx(0, abs=1e-6)


def test_pictures_are_not_mixed_twice(tmp_path):
    with pytest.raises(ConfigError, match=r"set recipe.mixup=0 and recipe.cutmix=0, or method.mixup=0"):
        toy_experiment("funmatch", tmp_path, "recipe.mixup=0.2")


# --- a teacher that learns along -------------------------------------------------------------------------------------

def test_the_teacher_learns_as_it_would_alone():
    first, second = toy_run("gradual", "online"), toy_run("kd", "online")
    for run in (first, second):
        distill(run)
    assert same(state(first.networks.teacher), state(second.networks.teacher))


def test_a_ternary_student_has_three_weights_a_layer_and_two_bits_each(tmp_path):
    run = toy_run("gradual", "online", "method.ternary=true")
    distill(run)
    weights = [layer.weight for layer in run.networks.student.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    for weight in weights:
        low, middle, high = weight.unique().tolist()
        assert (middle, low) == (0, -high)
    rest = sum(value.numel() for value in run.networks.student.parameters()) - sum(map(torch.numel, weights))
    assert run.networks.student.network.stored_size().bits == 2 * sum(map(torch.numel, weights)) + 32 * (len(weights) + rest)
