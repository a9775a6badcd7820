"""Discriminators of vectors, logits and maps: closed-form losses, who gets whose gradient, and what each method alone does."""

import math

import pytest
import torch
from torch import nn

from kdrun.methods.adversarial.anc import AdversarialCompression
from kdrun.methods.adversarial.kdgan import drawn_labels
from kdrun.methods.adversarial.meal import AdversarialEnsemble, aligned
from kdrun.training.loop import distill
from tests.toy import state, toy_run

KEYS = ["anc", "cgan_kd", "kdfm_gan", "ksanc", "ktan", "meal"]


def ready(key, *words):
    """A method after its setup, and a batch."""
    run = toy_run(key, "offline", *words)
    next(iter(run.method.phases(run)))
    for module in (run.networks.student, run.method):
        module.train()
    return run, next(run.stream.epoch(0, 1))


def updates(run, batch):
    return dict(run.method.step(run.networks, batch))


def undecided(run):
    """Discriminators whose last layers say 0."""
    for module in run.method.discriminator.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def gradients(loss, module):
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return [one for one in torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) if one is not None]


@pytest.mark.parametrize("key", KEYS)
def test_a_discriminator_that_cannot_tell_and_whose_gradient_goes_where(key):
    run, batch = ready(key, *(["method.start_share=0"] if key == "kdfm_gan" else []))
    first = updates(run, batch)
    own = nn.ModuleList([run.networks.student, *run.method.beside()])
    assert gradients(sum(first["discriminator"].values()), run.method.discriminator)
    assert not gradients(sum(first["discriminator"].values()), own)
    assert any(bool(one.any()) for one in gradients(first["student"]["gan"], run.networks.student))
    right, total = run.method.verdicts.sum(0).tolist()
    assert 0 <= right <= total > 0
    undecided(run)
    then = updates(run, batch)
    judges = len(run.method.discriminator) if isinstance(run.method, AdversarialEnsemble) else 1
    for name in ("real", "false"):
        assert then["discriminator"][name].item() == pytest.approx(judges * math.log(2), rel=1e-5)
    weight = 1.0 if key == "meal" else run.method.gan_weight
    assert then["student"]["gan"].item() == pytest.approx(weight * judges * math.log(2), rel=1e-5)


def test_cgan_kd_without_its_weights_is_the_labels_alone():
    ends = []
    for words in (("cgan_kd", "method.l1_weight=0", "method.gan_weight=0", "method.dropout=0"), ("vanilla",)):
        run = toy_run(words[0], "offline", *words[1:])
        distill(run)
        ends.append(state(run.networks.student))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_cgan_kd_says_the_class_and_sees_dropout():
    run, batch = ready("cgan_kd")
    undecided(run)
    terms = updates(run, batch)
    assert terms["discriminator"]["class"].item() == pytest.approx(2 * math.log(10), rel=1e-5)  # of both networks' logits
    assert terms["student"]["class"].item() == pytest.approx(math.log(10), rel=1e-5)
    seen = run.networks.student(batch)
    layer = run.networks.student.network.head
    assert not torch.allclose(seen.logits, layer(seen.embedding))


@pytest.mark.parametrize(("regulariser", "wanted"), [("adversarial", math.log(2)), ("l1", 3.0 + 4.0), ("l2", 5.0),
                                                     ("none", 0.0)])
def test_anc_regularisers(regulariser, wanted):
    method = AdversarialCompression(logit_weight=1, gan_weight=1, dropout=0.5, regulariser=regulariser, regulariser_weight=1,
                                    widths=[], discriminator_lr=1)
    method.discriminator = nn.Linear(2, 1)
    with torch.no_grad():
        method.discriminator.weight.copy_(torch.tensor([[3.0, -4.0]]))
        method.discriminator.bias.zero_()
    assert method.confusion(torch.zeros(6, 2)).item() == pytest.approx(wanted, abs=1e-6)


def test_anc_and_meal_read_no_label_and_take_the_pool():
    for key in ("anc", "meal"):
        run = toy_run(key, "offline", "dataset.labelled=20")
        (phase,) = run.method.phases(run)
        batch = next(phase.data.epoch(0, 1))
        assert batch.y is None
        run.method.train()
        assert set(updates(run, batch)) == {"student", "discriminator"}


def test_ksanc_without_its_weight_is_anc():
    ends = []
    for words in (("ksanc", "method.squeeze_weight=0"), ("anc",)):
        run = toy_run(words[0], "offline", *words[1:])
        distill(run)
        ends.append(state(run.networks.student))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_ksanc_teaches_the_student_no_attention_of_the_teacher():
    run, batch = ready("ksanc")
    terms = updates(run, batch)["student"]
    method, student = run.method, run.networks.student
    assert gradients(terms["squeezed"], student)
    assert not gradients(terms["squeezed"], nn.ModuleList([method.teacher_squeeze, method.classifier]))
    assert not gradients(terms["attention"], student)
    assert len(gradients(terms["attention"], nn.ModuleList([method.teacher_squeeze, method.classifier]))) == 2 * 3 + 2


def test_meal_aligns_maps_of_any_size():
    maps = torch.arange(12.0).view(1, 3, 2, 2)
    assert aligned(maps, 4).tolist() == [[4, 5, 6, 7]]
    assert aligned(maps, 8).tolist() == [[4, 4, 5, 5, 6, 6, 7, 7]]
    assert aligned(maps, 1).tolist() == [[5.5]]
    with pytest.raises(ValueError, match="gan_weights: 2 numbers, but lengths names 2 stages"):
        AdversarialEnsemble(lengths=[4, 2], similarity_weights=[1, 1, 1], gan_weights=[1, 1], discriminator_lr=1)


def test_meal_draws_every_teacher_and_counts_stages_from_the_last():
    run, batch = ready("meal")
    asked = []
    for teacher in run.networks.teachers:
        teacher.register_forward_pre_hook(lambda role, _: asked.append(role.name))
    for _ in range(12):
        updates(run, batch)
    assert set(asked) == {"teacher", "teacher 2"}
    fewest = min(len(role.shapes.stages) for role in (run.networks.student, *run.networks.teachers))
    assert [judge.layers[0].in_features for judge in run.method.discriminator] == [
        *run.method.lengths[len(run.method.lengths) - fewest:], 10]


def test_ktan_trains_its_layer_by_the_labels_through_a_classifier_that_stays():
    run, batch = ready("ktan")
    terms = updates(run, batch)["student"]
    assert gradients(terms["transfer"], run.method.transfer)
    assert not gradients(terms["transfer"], run.networks.student)
    assert not gradients(terms["maps"] + terms["gan"], run.method.transfer)


def test_kdfm_gan_of_equal_maps_answers_as_the_teacher():
    run, batch = ready("kdfm_gan", "student.widths=[6,8,12]", "method.start_share=0.5")
    student, teacher = run.networks.student, run.networks.teacher
    student.network.load_state_dict(teacher.network.state_dict())
    run.method.head.projector = nn.Identity()
    student.eval()
    assert list(updates(run, batch)["student"]) == ["maps", "ce", "gan"]  # of one epoch none is by maps alone
    batch.epochs = 4
    assert list(updates(run, batch)) == ["student"]
    assert {name: term.item() for name, term in updates(run, batch)["student"].items()} == {"maps": 0}
    made = run.method.trained_networks(run.networks)["student"].eval()
    assert torch.equal(made(batch.x).logits, teacher(batch).logits)
    assert not any(weight.requires_grad for weight in run.method.head.classifier.parameters())
    assert torch.equal(run.method.head.classifier.weight, teacher.network.head.weight)


def game(*words):
    """KDGAN after its epochs by labels alone."""
    run = toy_run("kdgan", "online", *words)
    phases = run.method.phases(run)
    assert next(phases).name == "labels alone"
    next(phases)
    return run, next(run.stream.epoch(0, 1))


def test_kdgan_labels_are_drawn_by_probabilities_and_relaxed():
    logits = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log().expand(4000, 3)
    drawn = drawn_labels(logits, 0.01, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.sum(dim=1), torch.ones(4000, dtype=torch.float64))
    shares = drawn.argmax(dim=1).bincount() / 4000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03)  # four standard deviations
    warm = drawn_labels(logits, 1e6, torch.Generator().manual_seed(0))
    assert torch.allclose(warm, torch.full_like(warm, 1 / 3), atol=1e-4)


def test_kdgan_temperature_falls_to_its_least():
    method = toy_run("kdgan", "online").method
    assert [round(method.warmth(epoch), 3) for epoch in (0, 1, 2, 100)] == [10, 8.8, 7.744, 0.1]


def test_kdgan_weights_take_out_what_they_weigh():
    run, batch = game("method.balance=1")
    terms = updates(run, batch)
    assert list(terms) == ["discriminator", "teacher's labels", "student"]
    assert terms["student"]["gan"].item() == 0 < terms["teacher's labels"]["gan"].item()
    run, batch = game("method.balance=0", "method.teacher_weight=0")
    moved = gradients(sum(updates(run, batch)["teacher's labels"].values()), run.networks.teacher)
    assert not any(bool(one.any()) for one in moved)


def test_kdgan_has_the_discriminator_score_what_either_draws():
    run, batch = game()
    undecided_head = run.method.discriminator.network.head
    nn.init.zeros_(undecided_head.weight)
    nn.init.zeros_(undecided_head.bias)
    terms = updates(run, batch)
    assert [terms["discriminator"][name].item() for name in ("real", "false")] == pytest.approx([math.log(2)] * 2, rel=1e-5)
    assert not gradients(sum(terms["discriminator"].values()), nn.ModuleList([run.networks.student, run.networks.teacher]))
    assert terms["student"]["gan"].item() == pytest.approx((1 - run.method.balance) * math.log(2), rel=1e-5)


def test_gan_tsc_without_generated_pictures_regresses_logits():
    run = toy_run("gan_tsc", "offline", "method.fake_share=0")
    (phase,) = run.method.phases(run)
    assert phase.epochs is None
    batch = next(run.stream.epoch(0, 1))
    terms = updates(run, batch)["student"]
    apart = run.networks.student(batch).logits - run.networks.teacher(batch).logits
    assert terms["mse"].item() == pytest.approx(0.5 * apart.square().sum().item() / len(batch), rel=1e-5)


def test_gan_tsc_learns_its_generator_first_and_then_from_its_pictures():
    run = toy_run("gan_tsc", "offline", "method.fake_share=1")
    phases = run.method.phases(run)
    assert next(phases).epochs == 1
    batch = next(run.stream.epoch(0, 1))
    run.method.train()
    undecided(run)
    terms = updates(run, batch)
    assert terms["discriminator"]["class"].item() == pytest.approx(2 * math.log(10), rel=1e-5)
    assert sum(terms["generator"].values()).item() == pytest.approx(math.log(2) + math.log(10), rel=1e-5)
    assert not gradients(sum(terms["discriminator"].values()), run.method.generator)
    next(phases)
    batch.y = None  # nor is any label read then
    seen = []
    run.networks.teacher.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert set(updates(run, batch)) == {"student"}
    assert seen[0].shape == batch.x.shape
    assert not torch.equal(seen[0], batch.x)
