"""A sum of methods: what is counted, by whom it is optimised, and in which order."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from kdrun.config import registry
from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.attention.at import AT
from kdrun.methods.base import Method, Phase
from kdrun.methods.composed.combine import Combine, Noted
from kdrun.methods.response.kd import KD
from kdrun.methods.shapes import Curriculum
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.toy import quick_for_some, toy_run, toy_settings


def kd():
    return KD(temperature=4.0, ce_weight=0.1, kd_weight=0.9, form="zhu")


def at():
    return AT(by="activation", power=2.0, weight=1000.0, reference=None, scaling="linear", ce_weight=0.7, gradient_weight=1.0,
              mode="code")


def combined(first, second, third=None, *, ce=1.0, weights=(1.0, 1.0, 1.0)):
    return Combine(first=first, second=second, third=third, first_weight=weights[0], second_weight=weights[1],
                   third_weight=weights[2], ce_weight=ce)


@pytest.fixture
def networks(factory):
    nets = factory()
    networks = Networks(nets.student(), [frozen(role) for role in nets.untrained_teachers()])
    networks.student.eval()
    return networks


@pytest.fixture
def batch(data):
    torch.manual_seed(0)
    return Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


def test_labels_count_once_and_every_other_term_by_both_weights(networks, batch):
    ((player, terms),) = combined(kd(), at(), ce=0.5, weights=(2.0, 3.0, 1.0)).step(networks, batch)
    assert player == "student"
    one, other = kd().loss(networks, batch), at().loss(networks, batch)
    hard = kd().label_loss(networks.student(batch), batch)
    assert values(terms) == pytest.approx(values({"ce": 0.5 * hard, "first kd": 2 * one["kd"], "second at": 3 * other["at"]}))


def test_the_recipes_smoothing_reaches_labels():
    run = toy_run("combine", "offline", "recipe.label_smoothing=0.3")
    distill(run)
    assert run.method.label_smoothing == run.method.first.label_smoothing == 0.3


@pytest.mark.parametrize(("words", "key", "scheme"), [
    (("method/second=vanilla", "method.ce_weight=0.1"), "kd", "offline"),
    (("method.second_weight=0", "method.ce_weight=0.1"), "kd", "offline"),
    (("method/first=vanilla", "method/second=at"), "at", "offline"),
    (("method/first=crd", "method/second=vanilla"), "crd", "offline"),
    # those that bring more to the labels than the student's answer to the batch
    (("method/first=okddip", "method/second=vanilla"), "okddip", "online"),
    (("method/first=vanilla", "method/second=one"), "one", "online"),
    (("method/first=vanilla", "method/second=ddgsd"), "ddgsd", "self"),
    (("method/first=vanilla", "method/second=pskd"), "pskd", "self"),
])
def test_with_nothing_else_it_is_the_method_itself(words, key, scheme):
    ends = []
    for chosen, *more in (("combine", *words), (key,)):
        run = toy_run(chosen, scheme, *more)
        distill(run)
        ends.append({f"{role} {name}": value for role, network in run.method.trained_networks(run.networks).items()
                     for name, value in network.state_dict().items()})
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-5) for name in ends[0])


def started(run):
    """Its first batch, once the modules of the method are there."""
    torch.manual_seed(0)  # what a training does first
    next(iter(run.method.phases(run)))
    return next(run.stream.epoch(0, 1))


def test_peers_keep_their_own_labels():
    ends = []
    for words in (("okddip",), ("combine", "method/first=okddip", "method/second=vanilla", "method.ce_weight=0.25")):
        run = toy_run(words[0], "online", *words[1:])
        batch = started(run)
        ((_, terms),) = run.method.step(run.networks, batch)
        part = getattr(run.method, "first", run.method)
        heads = [branch.network.head.weight for branch in part.branches]
        ends.append((float(sum(terms.values()).detach()), torch.autograd.grad(sum(terms.values()), heads, retain_graph=True),
                     float(part.label_loss(run.networks.student(batch), batch).detach())))
    (alone, gradients, hard), (summed, others, _) = ends
    assert summed == pytest.approx(alone - 0.75 * hard, rel=1e-5)
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(gradients, others, strict=True))
    assert all(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("key", [quick_for_some(key) for key in registry.options("method")])
def test_every_method_tells_its_own_labels_from_all_else(key):
    run = toy_run(key, registry.method_card(key).schemes[0])
    method, step = run.method, run.method.step
    if isinstance(method, Curriculum) or method.label_term is None:
        with pytest.raises(ValueError, match=r"^first: "):
            combined(method, kd())
        return
    run.rehearsal, method.label_loss = True, (noted := Noted(method.label_loss))

    def checked(networks, batch):
        noted.answers.clear()
        for player, terms in step(networks, batch):
            assert player != "student" or not noted.mixed(method, terms, networks)
            yield player, terms

    method.step = checked
    distill(run)


class Mixing(Method):
    """Hides a second cross-entropy in the term that is said to be its own, or says another name."""

    source = "a test"

    def __init__(self, name, double):
        super().__init__()
        self.name, self.double = name, double

    def loss(self, networks, batch):
        hard = self.label_loss(networks.student(batch), batch)
        return {self.name: hard + self.label_loss(networks.teacher(batch), batch) if self.double else 2 * hard}


@pytest.mark.parametrize(("name", "double", "refused"), [
    ("ce", False, False), ("ce", True, True), ("labels", False, True)])
def test_labels_that_would_count_twice_are_refused_by_the_rehearsal(name, double, refused):
    run = toy_run("combine", "online")
    run.method.second, run.rehearsal = Mixing(name, double), True
    reason = r"second: Mixing has no term that is its student's own cross-entropy .* take another"
    with pytest.raises(ValueError, match=reason) if refused else nullcontext():
        distill(run)


def test_what_is_trained_beforehand_comes_first():
    run = toy_run("combine", "offline", "method/first=fitnets", "method/second=at", "method/third=kd")
    distill(run)
    assert list(run.trained) == ["first: hint", "distill"]
    joint = {row[4] for row in run.history if row[1] == "distill" and row[3] == "train"}
    assert joint == {"ce", "first kd", "second at", "third kd"}


class Critic(Method):
    """A part with a player of its own that moves before the student, and something to do afterwards."""

    knowledge = ("feature",)
    source = "a test"

    def __init__(self, log):
        super().__init__()
        self.log, self.critic = log, nn.Linear(4, 1)

    def players(self, networks):
        return {"critic": [self.critic], "student": [networks.student]}

    def optimizer(self, player, weights, recipe):
        self.log.append(f"built for {player}")
        return super().optimizer(player, weights, recipe)

    def step(self, networks, batch):
        yield "critic", {"critic": self.critic(networks.student(batch).logits.detach()).mean()}
        said = networks.student(batch)
        yield "student", {"ce": 9 * self.label_loss(said, batch), "fool": self.critic(said.logits).mean()}
        self.log.append("after the student")
        yield "critic", {"late": self.critic(networks.student(batch).logits).mean()}


def test_players_of_parts_keep_their_moves_and_their_names(networks, batch):
    log = []
    method = combined(kd(), Critic(log))
    assert list(method.players(networks)) == ["student", "second critic"]
    assert method.players(networks)["second critic"] == [method.second.critic]
    updates = method.step(networks, batch)
    player, terms = next(updates)
    assert (player, list(terms)) == ("second critic", ["critic"])
    player, terms = next(updates)
    assert (player, list(terms)) == ("student", ["ce", "first kd", "second fool"])
    assert log == []
    player, terms = next(updates)
    assert (player, list(terms)) == ("second critic", ["late"])
    assert log == ["after the student"]
    assert next(updates, None) is None


def test_a_player_of_a_part_is_optimised_as_the_part_says():
    from tests.conftest import tiny_recipe

    log = []
    method = combined(kd(), Critic(log))
    method.optimizer("second critic", list(method.second.critic.parameters()), tiny_recipe())
    assert log == ["built for critic"]
    method.optimizer("student", list(method.second.critic.parameters()), tiny_recipe())
    assert log == ["built for critic"]


class Odd(Method):
    """A part with the phases it is given."""

    def __init__(self, *phases):
        super().__init__()
        self.given = phases

    def phases(self, run):
        yield from self.given

    def loss(self, networks, batch):
        return {"ce": self.label_loss(networks.student(batch), batch)}


@pytest.mark.parametrize(("phases", "reason"), [
    ([Phase(loss=lambda networks, batch: {})], "no phase in which"), ([Phase(epochs=3)], "a way of its own"),
    ([Phase(), Phase()], "several phases")])
def test_what_cannot_be_summed_says_so(phases, reason):
    run = toy_run("combine", "offline")
    run.method.second = Odd(*phases)
    with pytest.raises(ValueError, match=reason):
        list(run.method.phases(run))


def test_two_streams_cannot_be_summed_but_one_can():
    with pytest.raises(ConfigError, match="makes its own batches"):
        toy_run("combine", "self", "method/first=cskd", "method/second=ddgsd")
    run = toy_run("combine", "self", "method/first=cskd", "method/second=pskd")
    assert run.networks.teachers == []  # none of the two has one
    distill(run)
    assert {row[4] for row in run.history if row[3] == "train"} == {"ce", "first kd", "second past"}


@pytest.mark.parametrize(("words", "reason"), [
    (("method/first=takd",), "is a curriculum itself"),
    (("method/first=cskd", "scheme=offline"), "method/first=cskd does not run under scheme=offline"),
    (("method/third=mt_avg", "teachers=[cnn,mlp]"), "learns from one teacher")])
def test_what_does_not_fit_is_refused_before_anything_runs(words, reason, tmp_path):
    from kdrun.config.validation import problems

    assert any(reason in line for line in problems(toy_settings("combine", *words)))


def test_methods_of_many_teachers_can_be_summed():
    run = toy_run("combine", "offline", "method/first=mt_avg", "method/second=mt_you", "teachers=[cnn,mlp]")
    assert len(run.networks.teachers) == 2
    distill(run)
