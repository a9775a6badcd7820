"""Image synthesis: its measures on numbers that can be computed by hand, the discriminator, and compressed generators."""

import math

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.data.synthesis import synthesis
from kdrun.evaluation.picture_metrics import class_logits, coverage_and_density, frechet_distance, principal_features
from kdrun.experiment import Experiment
from kdrun.methods.synthesis import fooled, judged
from kdrun.models.output import ModelOutput
from kdrun.models.synthesis import PictureDiscriminator, PictureGenerator
from kdrun.tasks.synthesis import Synthesis
from kdrun.utils.progress import Progress
from tests.toy import NEEDS, prepared, settings_of, state, toy_run

DIGITS = {"_target_": "kdrun.data.readers.digits", "test": 0.5, "name": "digits"}
DISCRIMINATOR = {"discriminator_width": 4, "discriminator_lr": 0.001, "discriminator_penalty": 1.0}


@pytest.fixture(scope="module")
def source():
    return synthesis(base=DIGITS, noise=5, **DISCRIMINATOR)


@pytest.fixture(scope="module")
def task(source):
    return Synthesis(source.classes, (5,), source.info)


def test_the_distance_between_gaussians():
    draws = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white = (draws - draws.mean(dim=0)) @ torch.linalg.inv(torch.linalg.cholesky(draws.T.cov())).T
    assert frechet_distance(white, 2 * white + torch.tensor([1.0, 0.0])) == pytest.approx(3)  # N(0, I) and N((1, 0), 4 I)
    assert frechet_distance(white, white) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(white[:40] * 0, white[:40] * 0 + 2) == pytest.approx(8)  # no spread at all, and no inverse needed


def test_coverage_asks_for_variety_and_density_for_likeness():
    real = torch.arange(6.0)[:, None]
    assert coverage_and_density(real, real, 5) == (1.0, pytest.approx(sum(  # each within the farthest other of each
        abs(a - b) < max(a, 5 - a) for a in range(6) for b in range(6)) / 30))
    collapsed = torch.full((6, 1), 2.0)
    assert coverage_and_density(real, collapsed, 1) == (1 / 6, 1.0)  # alike, and all the same
    assert coverage_and_density(real, real + 100, 5) == (0.0, 0.0)


def test_the_class_of_a_picture_is_that_of_the_nearest_real_one():
    real, labels = torch.tensor([[0.0], [1.0], [5.0], [6.0]]), torch.tensor([0, 0, 2, 2])
    logits = class_logits(real, labels, torch.tensor([[0.2], [4.0]]), 3)
    assert logits.argmax(dim=1).tolist() == [0, 2]
    assert logits[0].tolist() == pytest.approx([-0.02, -(5.8**2) / 2, -(4.8**2) / 2])  # nearest ones are 1 apart: width 1


def test_many_pixels_are_seen_in_the_real_ones_principal_components():
    real = torch.randn(30, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    seen, other = principal_features(real, real.roll(1, 0))
    assert seen.shape == (30, 30)
    pixels = real.flatten(1).double()
    assert torch.allclose(torch.pdist(seen), torch.pdist(pixels))  # these hold all of the variance
    assert torch.allclose(other, seen.roll(1, 0))


def test_real_pictures_are_their_own_best_answer(source, task):
    real = task.real(source.test)
    assert float(real.min()) == -1
    assert float(real.max()) == 1
    best = task.measures(ModelOutput(real, torch.empty(0)), source.test)
    assert best["coverage"] == best["class_accuracy"] == 1
    assert best["frechet_pixels"] == pytest.approx(0, abs=1e-6)
    wrong = task.compared(real, source.test.labels.roll(1), source.test)  # the same pictures for other classes
    assert wrong["coverage"] < 0.5
    assert wrong["class_accuracy"] < 0.3
    logits, labels = task.split_rows(ModelOutput(real, torch.empty(0)), source.test)
    assert torch.equal(logits.argmax(dim=1), labels)


def test_training_noise_is_drawn_and_that_of_a_test_is_not(source, task):
    rows = torch.arange(4)
    first, second = (task.batch(source.train, rows, source.train.inputs[rows], torch.Generator().manual_seed(seed))
                     for seed in (0, 1))
    assert first.x.shape == (4, 15)
    assert torch.equal(first.x[:, 5:].argmax(dim=1), source.train.labels[rows])
    assert not torch.equal(first.x[:, :5], second.x[:, :5])
    plain = task.batch(source.train, rows, source.train.inputs[rows])
    assert torch.equal(plain.x[:, :5], source.train.inputs[rows])
    assert torch.equal(plain.targets["picture"], task.real(source.train, rows))


def test_the_discriminator_by_hand(task):
    def weighted(penalty: float) -> Synthesis:
        return Synthesis(task.classes, task.shape, {**task.info, "discriminator_penalty": penalty})

    discriminator = PictureDiscriminator((1, 8, 8), 3, 4)
    torch.nn.init.zeros_(discriminator.real.weight)
    torch.nn.init.zeros_(discriminator.real.bias)
    pictures, classes = torch.rand(5, 1, 8, 8), torch.arange(5) % 3
    batch = Batch(torch.zeros(5, 1), targets={"picture": pictures, "class": classes})
    found = judged(discriminator, pictures, batch, weighted(2.0))  # it says 0 of everything, with a slope of 0
    terms = {name: term.detach() for name, term in found.items()}
    assert float(terms["real"]) == pytest.approx(math.log(2))
    assert float(terms["made"]) == pytest.approx(math.log(2))
    assert float(terms["penalty"]) == 0
    assert set(judged(discriminator, pictures, batch, weighted(0.0))) == {"real", "made"}
    assert float(fooled(discriminator, pictures, batch).detach()) == pytest.approx(math.log(2))
    torch.nn.init.ones_(discriminator.classes.weight)  # now the class counts, and slopes are those of the sum of features
    real = pictures.clone().requires_grad_()
    slope, = torch.autograd.grad(discriminator.maps(real).sum(), real)
    assert float(judged(discriminator, pictures, batch, weighted(2.0))["penalty"].detach()) == pytest.approx(
        float(slope.square().sum() / 5), rel=1e-5)


def test_a_generator_of_any_size_and_what_it_shows():
    made = PictureGenerator(widths=[6, 4, 2], latent=5, classes=3, picture=(2, 7, 10))(torch.rand(4, 8))
    assert made.logits.shape == (4, 2, 7, 10)
    assert [tuple(stage.shape[1:]) for stage in made.stages] == [(6, 2, 3), (4, 4, 5), (2, 7, 10)]
    assert float(made.logits.detach().abs().max()) <= 1
    with pytest.raises(ValueError, match="two or more"):
        PictureGenerator(widths=[6], latent=5, classes=3, picture=(1, 8, 8))


def test_the_discriminator_learns_first_and_alone():
    run = toy_run("gan_compress", "offline")
    phases = run.method.phases(run)
    next(phases)
    assert list(run.method.players(run.networks)) == ["discriminator"]
    batch = next(iter(run.stream.epoch(0, 1)))
    assert [player for player, _ in run.method.step(run.networks, batch)] == ["discriminator"]
    next(phases)
    assert list(run.method.players(run.networks)) == ["discriminator", "student"]


def test_a_student_that_is_its_teacher_has_nothing_to_learn_but_the_discriminator():
    run = toy_run("gan_compress", "offline", "student.widths=[4,4]")
    list(run.method.phases(run))
    run.networks.student.network.load_state_dict(state(run.networks.teachers[0].network))
    run.networks.student.eval()
    for adapter in run.method.adapters:
        torch.nn.init.dirac_(adapter.weight)
        torch.nn.init.zeros_(adapter.bias)
    batch = next(iter(run.stream.epoch(0, 1)))
    terms = run.method.loss(run.networks, batch)
    assert terms["picture"].item() == terms["map"].item() == 0
    assert terms["discriminator"].item() > 0


ON_SYNTHESIS = ("dataset=synthesis", "teacher=generator", "student=generator_8")
COMPRESSED = ("method=gan_compress", *NEEDS["gan_compress"])


@pytest.mark.parametrize(("words", "problem"), [
    (("method=rkd", *ON_SYNTHESIS), "a network alone is trained against a discriminator"),
    ((*COMPRESSED, "student.widths=[4,4,4]"), "take as many widths, or method.map_weight=0"),
    ((*COMPRESSED, *(f"method.{weight}_weight=0" for weight in ("discriminator", "picture", "map"))),
     "the student would learn nothing"),
])
def test_what_does_not_fit_is_said_before_anything_is_trained(words, problem):
    with pytest.raises(ConfigError, match=problem):
        Experiment.prepare(settings_of(*words), Progress(None))


def test_elsewhere_nothing_makes_pictures():
    with pytest.raises(ConfigError, match="GANCompress needs made pictures, which classification of pictures has not"):
        Experiment.prepare(settings_of("method=gan_compress"), Progress(None))


def test_flops_and_shapes_are_found():
    experiment = prepared(("gan_compress",))
    assert experiment.data.example(2).shape == (2, 14)


def test_a_generator_is_held_to_its_past_on_old_classes_alone():
    run = toy_run("lifelong_gan", "self", "method.split=[4,6]")
    phases = run.method.phases(run)
    next(phases)
    first = next(iter(run.stream.epoch(0, 1)))
    assert [player for player, _ in run.method.step(run.networks, first)] == ["student discriminator", "student"]
    assert [sorted(terms) for _, terms in run.method.step(run.networks, first)][1] == ["adversarial"]
    for phase in phases:
        assert phase.name == "task 2"
        batch = next(iter(phase.data.epoch(0, 1)))
        assert sorted(batch.targets["class"].unique().tolist())[0] >= 4
        old = run.method.past_codes(batch)
        assert torch.equal(old[:, :4], batch.tensor[:, :4])  # the same noise
        assert int(old[:, 4:].argmax(dim=1).max()) < 4
        run.networks.student.eval()  # its statistics are then its past's
        updates = dict(run.method.step(run.networks, batch))
        assert updates["student"]["past"].item() == pytest.approx(0, abs=1e-6)  # as it was
        learners = ("student", "finetune", "replay")
        assert set(updates) == {f"{name}{part}" for name in learners for part in ("", " discriminator")}
        assert set(updates["replay"]) == set(updates["finetune"]) == {"adversarial"}
        break
