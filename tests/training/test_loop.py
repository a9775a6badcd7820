"""The loop: who moves, who stays, how phases follow each other, and what stops it."""

import math
from dataclasses import replace

import pytest
import torch

from kdrun.methods.base import Method, Phase
from kdrun.models.roles import Networks
from kdrun.training import updates
from kdrun.training.loop import Diverged, PhaseState, distill
from kdrun.training.players import set_rate
from tests.toy import state, toy_run


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Plain(Method):
    source = "a test"

    def loss(self, networks, batch):
        return {"ce": self.label_loss(networks.student(batch), batch)}


def run_with(method, **recipe):
    run = toy_run("vanilla", "offline")
    run.method, run.recipe = method, replace(run.recipe, **recipe)
    return run


def test_a_phase_trains_its_modules_and_leaves_the_rest():
    class Half(Plain):
        def phases(self, run):
            yield Phase("half", train=run.networks.student.until(1), loss=self.loss)

    run = run_with(Half())
    before = state(run.networks.student.network)
    distill(run)
    after = run.networks.student.network.state_dict()
    moved = {name.split(".")[0] + "." + name.split(".")[1] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"stages.0"}  # statistics of the later stages stay as they were too


def test_code_after_a_yield_runs_after_the_update():
    seen = []

    class Watching(Plain):
        def step(self, networks, batch):
            before = networks.student.network.head.bias.detach().clone()
            yield "student", self.loss(networks, batch)
            seen.append(torch.equal(before, networks.student.network.head.bias))

    distill(run_with(Watching()))
    assert seen
    assert not any(seen)


def test_phases_of_one_name_go_on_as_one():
    class Parts(Plain):
        def phases(self, run):
            for _ in range(3):
                yield Phase("train", epochs=2, total=6)

    class Whole(Plain):
        def phases(self, run):
            yield Phase("train", epochs=6)

    ends = []
    for method in (Parts(), Whole()):
        run = run_with(method, schedule="cosine")
        distill(run)
        ends.append((run.networks.student.network.state_dict(), [row[2] for row in run.history if row[4] == "ce"]))
    assert equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] == list(range(6))


def rates_of(run, last, monkeypatch):
    """The learning rates of every step of a cosine from 0.01, by phase, up to the phase of this name."""
    seen, phases = {}, run.method.phases

    def watched(given):
        for phase in phases(given):
            seen[phase.name] = []
            yield phase
            if phase.name == last:
                return

    def watching(optimizer, share):
        set_rate(optimizer, share)
        list(seen.values())[-1].append(optimizer.param_groups[0]["lr"])

    run.method.phases, run.recipe = watched, replace(run.recipe, schedule="cosine", lr=0.01, epochs=1)
    monkeypatch.setattr(updates, "set_rate", watching)
    distill(run)
    return seen


@pytest.mark.parametrize(("key", "scheme", "more", "first"), [
    ("fitnets", "offline", (), "hint"),
    ("ab", "offline", (), "boundaries"),
    ("ft", "offline", (), "paraphraser"),
    ("fsp", "offline", (), "flow"),
    ("lwf", "self", ("method.warmup_epochs=1", "recipe.batch_size=4"), "task 2 head"),
])
def test_a_phase_that_prepares_holds_the_rate(key, scheme, more, first, monkeypatch):
    rates = rates_of(toy_run(key, scheme, *more), first, monkeypatch)[first]
    assert len(rates) > 1
    assert set(rates) == {0.01}


def test_the_phase_after_one_that_holds_the_rate_follows_the_schedule(monkeypatch):
    rates = rates_of(toy_run("ab", "offline"), "distill", monkeypatch)["distill"]
    assert rates == pytest.approx([0.005 * (1 + math.cos(math.pi * step / len(rates))) for step in range(len(rates))])


def test_every_method_of_a_seed_sees_the_same_pictures_and_starts_from_the_same_weights():
    batches, starts = [], []

    class Seeing(Plain):
        def phases(self, run):
            starts.append(state(run.networks.student.network))
            yield Phase()

        def loss(self, networks, batch):
            batches[-1].append(batch.x.clone())
            return super().loss(networks, batch)

    class Drawing(Seeing):
        def loss(self, networks, batch):
            torch.rand(7)  # a method's own draws change nobody's pictures
            return super().loss(networks, batch)

    for method in (Seeing(), Drawing()):
        batches.append([])
        distill(run_with(method))
    assert equal(*starts)
    assert len(batches[0]) == len(batches[1]) > 3
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_two_players_may_not_own_one_parameter():
    class Greedy(Plain):
        def players(self, networks):
            return {"student": [networks.student], "other": [networks.student.network.head]}

    with pytest.raises(ValueError, match="own the same parameter"):
        distill(run_with(Greedy()))


def test_only_the_players_own_gradients():
    class Two(Plain):
        def setup(self, networks, data):
            self.extra = torch.nn.Linear(1, 1)

        def players(self, networks):
            return {"student": [networks.student], "extra": [self.extra]}

        def step(self, networks, batch):
            shared = self.label_loss(networks.student(batch), batch) * self.extra(torch.ones(1, 1)).exp().mean()
            before = [None if weight.grad is None else weight.grad.clone() for weight in networks.student.parameters()]
            yield "extra", {"shared": shared}
            for old, weight in zip(before, networks.student.parameters(), strict=True):
                assert (old is None and weight.grad is None) or torch.equal(old, weight.grad)
            yield "student", {"ce": self.label_loss(networks.student(batch, fresh=True), batch)}

    run = run_with(Two())
    distill(run)
    assert {row[4] for row in run.history if row[3] == "train"} == {"extra shared", "ce"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_with_its_place(value):
    class Bad(Plain):
        def loss(self, networks, batch):
            return {**super().loss(networks, batch), "bad": networks.student(batch).logits.sum() * value}

    with pytest.raises(Diverged, match=r"'bad'.*method Bad, phase 'distill', epoch 1.*recipe\.lr"):
        distill(run_with(Bad()))


def test_gradients_are_clipped():
    run = run_with(Plain(), clip=1e-12, momentum=0.0, weight_decay=0.0)
    before = {name: weight.detach().clone() for name, weight in run.networks.student.network.named_parameters()}
    distill(run)
    assert all(torch.allclose(before[name], weight, atol=1e-8)
               for name, weight in run.networks.student.network.named_parameters())


def test_label_smoothing_is_the_recipes():
    torch.manual_seed(0)
    run = run_with(Plain())
    run.method.label_smoothing = 0.1
    batch = next(run.stream.epoch(0, 1))
    logits = run.networks.student(batch).logits
    logs = logits.log_softmax(1)
    wanted = -(0.9 * logs[torch.arange(len(batch)), batch.y] + 0.1 * logs.mean(1)).mean()
    assert run.method.loss(run.networks, batch)["ce"].item() == pytest.approx(wanted.item(), abs=1e-6)


def test_online_runs_the_teacher_once_a_batch_and_trains_it():
    run = toy_run("kd", "online")
    calls = []
    run.networks.teacher.network.register_forward_hook(lambda module, _, __: calls.append(module.training))
    teacher = state(run.networks.teacher.network)
    distill(run)
    assert not equal(teacher, run.networks.teacher.network.state_dict())
    steps = run.recipe.epochs * len(run.stream)
    assert sum(calls) == steps  # in training mode once a batch; evaluation comes on top


def test_teacher_is_exactly_one():
    run = toy_run("kd", "offline")
    with pytest.raises(ValueError, match="exactly one teacher"):
        _ = Networks(run.networks.student).teacher


def test_an_accelerator_is_not_kept_waiting_within_an_epoch():
    """Terms stay tensors where they were computed; on a CPU they are numbers, and looked at every few steps."""
    run = run_with(Plain())
    phase = Phase()
    bad = {"ce": torch.tensor(math.nan)}
    with pytest.raises(Diverged):
        PhaseState(run, phase, 0, 1, {}).add("student", bad)
    run.device = torch.device("cuda")
    position = PhaseState(run, phase, 0, 1, {})
    for _ in range(2):
        position.add("student", {"kd": torch.tensor(1.5)})
    position.add("student", bad)
    assert position.sums["kd"].dtype == torch.float64
    assert position.sums["kd"].item() == 3.0
    with pytest.raises(Diverged, match="'ce'"):
        position.look()


def test_a_rehearsal_moves_no_weight():
    run = toy_run("kd", "offline")
    run.rehearsal, before = True, state(run.networks.student.network)
    distill(run)
    weights = dict(run.networks.student.network.named_parameters())
    assert all(torch.equal(before[name], weight) for name, weight in weights.items())
    assert run.history  # the step was taken all the same
