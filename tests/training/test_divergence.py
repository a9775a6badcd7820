"""Numbers that go wrong: where a run stops, what it says, and what a bounded number of bad batches leaves behind."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdrun.data.data import read
from kdrun.methods.base import Method
from kdrun.storage.network_store import entries
from kdrun.training.divergence import Diverged, StepSnapshot, finite, first_bad
from kdrun.training.loop import distill
from tests.conftest import settings_of, tiny_source
from tests.toy import state, toy_experiment, toy_run


class Plain(Method):
    source = "a test"

    def loss(self, networks, batch):
        return {"ce": self.label_loss(networks.student(batch), batch)}


class Bad(Plain):
    """Cross-entropy, in which some batches have something that is NaN."""

    def __init__(self, *bad, value=math.nan):
        super().__init__()
        self.bad, self.value = bad, value

    def loss(self, networks, batch):
        terms = super().loss(networks, batch)
        if (batch.epoch, batch.step) in self.bad:
            terms["bad"] = networks.student(batch).logits.sum() * self.value
        return terms


def run_with(method, folder=None, scheme="offline", **recipe):
    run = toy_run("vanilla", scheme, folder=folder)
    run.method, run.recipe = method, replace(run.recipe, **recipe)
    return run


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_batch_leaves_no_trace(value, monkeypatch):
    """As if the stream had not had it."""
    skipping = run_with(Bad((0, 1), (1, 2), value=value), skip_bad_batches=2)
    distill(skipping)
    without = run_with(Plain())
    epoch = without.stream.epoch
    monkeypatch.setattr(without.stream, "epoch", lambda number, *rest: (
        batch for batch in epoch(number, *rest) if (number, batch.step) not in ((0, 1), (1, 2))))
    distill(without)
    wanted = without.networks.student.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in skipping.networks.student.state_dict().items())
    rows = [row for row in skipping.history if row[4] == "skipped_batches"]
    assert [(row[2], row[5]) for row in rows] == [(0, 1.0), (1, 1.0)]
    assert [row for row in skipping.history if row not in rows] == without.history
    assert all(math.isfinite(row[5]) for row in skipping.history)


def test_one_more_than_allowed_stops(tmp_path):
    with pytest.raises(Diverged, match=r"'bad' was NaN or infinite in one batch more than recipe.skip_bad_batches=1 allows in "
                                       r"toy, method Bad, phase 'distill', epoch 2; try"):
        distill(run_with(Bad((0, 1), (1, 1)), skip_bad_batches=1))


def test_by_default_the_first_stops():
    with pytest.raises(Diverged, match=r"the term 'bad' became nan .*method Bad, phase 'distill', epoch 1; try a smaller "
                                       r"recipe\.lr"):
        distill(run_with(Bad((0, 1))))


class Root(Plain):
    """A loss that is a number everywhere, with a gradient that is none in some batches."""

    def __init__(self, *bad):
        super().__init__()
        self.bad = bad

    def loss(self, networks, batch):
        terms = super().loss(networks, batch)
        if (batch.epoch, batch.step) in self.bad:
            terms["root"] = (networks.student(batch).logits * 0).sum().sqrt()  # 0, and its slope is infinite
        return terms


def test_a_loss_that_is_a_number_with_a_gradient_that_is_none_is_skipped_too():
    run = run_with(Root((0, 1)), skip_bad_batches=1)
    distill(run)
    assert run.skipped == 1
    assert first_bad(run.networks.student.state_dict().items()) is None
    with pytest.raises(Diverged, match="the gradient of 'student' was NaN or infinite"):
        distill(run_with(Root((0, 1), (0, 2)), skip_bad_batches=1))


def test_statistics_and_memories_that_a_bad_batch_touched_are_taken_back():
    class Remembering(Plain):
        def setup(self, networks, data):
            self.register_buffer("centre", torch.zeros(10))
            self.register_buffer("count", torch.zeros(()))

        def loss(self, networks, batch):
            logits = networks.student(batch).logits
            bad = (batch.epoch, batch.step) == (0, 2)
            with torch.no_grad():
                self.centre = 0.9 * self.centre + logits.mean(0) * (math.nan if bad else 1)  # a new tensor
                self.count += 1  # the same one
            return {"ce": self.label_loss(networks.student(batch), batch) * (math.nan if bad else 1)}

    run = run_with(Remembering(), skip_bad_batches=1)
    distill(run)
    assert torch.isfinite(run.method.centre).all()
    assert int(run.method.count) == 5  # of 6 batches


def test_what_is_skipped_is_known_after_an_interruption(tmp_path, monkeypatch):
    whole = run_with(Bad((0, 1), (1, 1)), skip_bad_batches=2)
    distill(whole)
    steps = []

    def die(_):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("kdrun.utils.progress.Silent.step", die)
    with pytest.raises(KeyboardInterrupt):
        distill(run_with(Bad((0, 1), (1, 1)), tmp_path, skip_bad_batches=2))
    monkeypatch.undo()
    again = run_with(Bad((0, 1), (1, 1)), tmp_path, skip_bad_batches=2)
    distill(again)
    assert (again.skipped, again.history) == (2, whole.history)
    with pytest.raises(Diverged):  # the bound holds over both sessions
        distill(run_with(Bad((0, 1), (1, 1)), skip_bad_batches=1))


def test_undo_gives_back_values_and_objects():
    norm = nn.BatchNorm1d(3)
    mean = norm.running_mean
    undo = StepSnapshot([nn.Sequential(norm)])
    norm(torch.full((4, 3), math.nan))
    norm.running_var = torch.ones(3) * 7
    undo()
    assert norm.running_mean is mean
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert torch.equal(norm.running_var, torch.ones(3))
    assert int(norm.num_batches_tracked) == 0


def test_finite_looks_at_gradients():
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    assert finite([one, two])
    one.grad = torch.tensor([1.0, 2.0])
    assert finite([one, two])
    two.grad = torch.tensor([1.0, math.inf])
    assert not finite([one, two])


LAST = (1, 2)  # the last batch of the toy recipe


def test_weights_that_the_last_update_spoilt_are_found(tmp_path):
    run = run_with(Root(LAST), tmp_path)
    run.every = 1e9
    with pytest.raises(Diverged, match=r"'0 student \S+' became NaN or infinite in toy, method Root, phase 'distill', epoch 2"):
        distill(run)
    assert list(tmp_path.iterdir()) == []  # and not saved


def test_a_teacher_of_no_numbers_never_enters_the_store(tmp_path, monkeypatch):
    from kdrun.methods.baseline.vanilla import Vanilla

    loss = Vanilla.loss

    def spoilt(self, networks, batch):
        terms = loss(self, networks, batch)
        if (batch.epoch, batch.step) == LAST:
            terms["root"] = (networks.student(batch).logits * 0).sum().sqrt()
        return terms

    monkeypatch.setattr(Vanilla, "loss", spoilt)
    with pytest.raises(Diverged, match="teacher cnn, method Vanilla"):
        toy_experiment("kd", tmp_path)
    assert entries(tmp_path / "store") == []


@pytest.mark.parametrize("method", ["dafl", "dfad", "zskt"])
def test_a_dead_generator_stops_the_run(method, monkeypatch):
    from kdrun.models.generator import Generator

    forward = Generator.forward
    monkeypatch.setattr(Generator, "forward", lambda self, noise: forward(self, noise)[:1].expand(
        len(noise), -1, -1, -1) if not self.training else forward(self, noise))
    with pytest.raises(Diverged, match=r"the generator is dead.*method \w+, phase 'distill', epoch 1; try .*generator_lr"):
        distill(toy_run(method, "offline"))


def test_a_generator_of_no_numbers_stops_the_run(monkeypatch):
    from kdrun.models.generator import Generator

    forward = Generator.forward
    monkeypatch.setattr(Generator, "forward",
                        lambda self, noise: forward(self, noise) * (1 if self.training else math.nan))
    with pytest.raises(Diverged, match="pictures hold NaN"):
        distill(toy_run("dafl", "offline"))


def test_a_living_generator_is_none_of_it():
    run = toy_run("dafl", "offline")
    distill(run)
    assert run.method.failure() is None
    last = run.method.generator.last
    nn.init.zeros_(last.weight)  # whatever the noise, only the bias is left
    assert "dead" in run.method.failure()[0]


def test_fewer_pictures_than_classes_are_refused():
    with pytest.raises(ValueError, match="train_limit is 3, but there are 4 classes; each needs a sample"):
        read(settings_of(train_limit=3), tiny_source, {})
    assert sorted(read(settings_of(train_limit=4), tiny_source, {}).train.labels.tolist()) == [0, 1, 2, 3]


# --- mixed precision -------------------------------------------------------------------------------------------------

RELATIONS = ["rkd", "sp", "pkt", "cckd"]


@pytest.mark.parametrize("method", RELATIONS)
def test_relations_are_computed_in_fp32_under_bf16(method):
    """The same answers give the same loss, to the last bit, whatever precision the networks run in."""
    losses = {}
    for precision in ("fp32", "bf16"):
        run = toy_run(method, "offline", f"precision={precision}")
        torch.manual_seed(0)
        next(iter(run.method.phases(run)))
        batch = next(run.stream.epoch(0, 1))
        for role in (run.networks.student, run.networks.teacher):
            assert (role.precision is None) == (precision == "fp32")
            given = run_answers(role, batch)
            role.network.forward = lambda _, given=given: given  # the answer is the same, asked under autocast or not
        terms = run.method.loss(run.networks, batch)
        assert not torch.is_autocast_enabled("cpu")
        assert all(term.dtype == torch.float32 for term in terms.values())
        losses[precision] = {name: term.item() for name, term in terms.items()}
    assert losses["fp32"] == losses["bf16"]


def run_answers(role, batch):
    """What it answers in fp32, rounded to what bf16 can say, in bf16: what a network gives under autocast."""
    before, role.precision = role.precision, None
    with torch.no_grad():
        output = role(batch, fresh=True)
    role.precision = before
    role.forget()

    return output.map(lambda value: value.bfloat16() if before else value.bfloat16().float())


@pytest.mark.parametrize("method", RELATIONS)
def test_bf16_trains_and_keeps_the_weights_in_fp32(method):
    run = toy_run(method, "offline", "precision=bf16")
    before = state(run.networks.student)
    distill(run)
    after = run.networks.student.state_dict()
    assert all(value.dtype in (torch.float32, torch.int64) for value in after.values())
    assert any(not torch.equal(before[name], value) for name, value in after.items())
