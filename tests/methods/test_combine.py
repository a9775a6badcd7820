"""A sum of methods: what is counted, by whom it is optimised, and in which order."""

import pytest
import torch
from torch import nn

from kdrun.cast import Cast, frozen
from kdrun.config import Refused
from kdrun.data.batch import Batch
from kdrun.engine import distill
from kdrun.method import Method, Phase
from kdrun.methods.attention.at import AT
from kdrun.methods.composed.combine import Combine
from kdrun.methods.response.kd import KD
from tests.toy import toy_run, toy_settings


def kd():
    return KD(temperature=4.0, ce_weight=0.1, kd_weight=0.9, form="zhu")


def at():
    return AT(power=2.0, weight=1000.0, reference=None, scaling="linear", ce_weight=0.7, mode="code")


def combined(first, second, third=None, *, ce=1.0, weights=(1.0, 1.0, 1.0)):
    return Combine(first=first, second=second, third=third, first_weight=weights[0], second_weight=weights[1],
                   third_weight=weights[2], ce_weight=ce)


@pytest.fixture
def cast(networks):
    nets = networks()
    cast = Cast(nets.student(), [frozen(role) for role in nets.untrained_teachers()])
    cast.student.eval()
    return cast


@pytest.fixture
def batch(data):
    torch.manual_seed(0)
    return Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


def test_labels_count_once_and_every_other_term_by_both_weights(cast, batch):
    ((player, terms),) = combined(kd(), at(), ce=0.5, weights=(2.0, 3.0, 1.0)).step(cast, batch)
    assert player == "student"
    one, other = kd().loss(cast, batch), at().loss(cast, batch)
    hard = kd().hard(cast.student(batch), batch)
    assert values(terms) == pytest.approx(values({"ce": 0.5 * hard, "first kd": 2 * one["kd"], "second at": 3 * other["at"]}))


def test_the_recipes_smoothing_reaches_labels():
    run = toy_run("combine", "offline", "recipe.label_smoothing=0.3")
    distill(run)
    assert run.method.label_smoothing == run.method.first.label_smoothing == 0.3


@pytest.mark.parametrize(("words", "key"), [
    (("method/second=vanilla", "method.ce_weight=0.1"), "kd"),
    (("method.second_weight=0", "method.ce_weight=0.1"), "kd"),
    (("method/first=vanilla", "method/second=at"), "at"),
    (("method/first=crd", "method/second=vanilla"), "crd"),
])
def test_with_nothing_else_it_is_the_method_itself(words, key):
    ends = []
    for chosen, *more in (("combine", *words), (key,)):
        run = toy_run(chosen, "offline", *more)
        distill(run)
        ends.append(run.cast.student.state_dict())
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-6) for name in ends[0])


def test_what_is_trained_beforehand_comes_first():
    run = toy_run("combine", "offline", "method/first=fitnets", "method/second=at", "method/third=kd")
    distill(run)
    assert list(run.trained) == ["first: hint", "distill"]
    joint = {row[4] for row in run.history if row[1] == "distill" and row[3] == "train"}
    assert joint == {"ce", "first kd", "second at", "third kd"}


class Critic(Method):
    """A part with a player of its own that moves before the student, and something to do afterwards."""

    knowledge = "feature"
    source = "a test"

    def __init__(self, log):
        super().__init__()
        self.log, self.critic = log, nn.Linear(4, 1)

    def players(self, cast):
        return {"critic": [self.critic], "student": [cast.student]}

    def optimizer(self, player, weights, recipe):
        self.log.append(f"built for {player}")
        return super().optimizer(player, weights, recipe)

    def step(self, cast, batch):
        yield "critic", {"critic": self.critic(cast.student(batch).logits.detach()).mean()}
        said = cast.student(batch)
        yield "student", {"ce": 9 * self.hard(said, batch), "fool": self.critic(said.logits).mean()}
        self.log.append("after the student")
        yield "critic", {"late": self.critic(cast.student(batch).logits).mean()}


def test_players_of_parts_keep_their_moves_and_their_names(cast, batch):
    log = []
    method = combined(kd(), Critic(log))
    assert list(method.players(cast)) == ["student", "second critic"]
    assert method.players(cast)["second critic"] == [method.second.critic]
    moves = method.step(cast, batch)
    player, terms = next(moves)
    assert (player, list(terms)) == ("second critic", ["critic"])
    player, terms = next(moves)
    assert (player, list(terms)) == ("student", ["ce", "first kd", "second fool"])
    assert log == []
    player, terms = next(moves)
    assert (player, list(terms)) == ("second critic", ["late"])
    assert log == ["after the student"]
    assert next(moves, None) is None


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

    def loss(self, cast, batch):
        return {"ce": self.hard(cast.student(batch), batch)}


@pytest.mark.parametrize(("phases", "reason"), [
    ([Phase(loss=lambda cast, batch: {})], "no phase in which"), ([Phase(epochs=3)], "a way of its own"),
    ([Phase(), Phase()], "several phases")])
def test_what_cannot_be_summed_says_so(phases, reason):
    run = toy_run("combine", "offline")
    run.method.second = Odd(*phases)
    with pytest.raises(ValueError, match=reason):
        list(run.method.phases(run))


def test_two_streams_cannot_be_summed_but_one_can():
    with pytest.raises(Refused, match="makes its own batches"):
        toy_run("combine", "self", "method/first=cskd", "method/second=ddgsd")
    run = toy_run("combine", "self", "method/first=cskd", "method/second=pskd")
    assert run.cast.teachers == []  # none of the two has one
    distill(run)
    assert {row[4] for row in run.history if row[3] == "train"} == {"ce", "first kd", "second past"}


@pytest.mark.parametrize(("words", "reason"), [
    (("method/first=takd",), "is a curriculum itself"),
    (("method/first=cskd", "scheme=offline"), "method/first=cskd does not run under scheme=offline"),
    (("method/third=mt_avg", "teachers=[cnn,mlp]"), "learns from one teacher")])
def test_what_does_not_fit_is_refused_before_anything_runs(words, reason, tmp_path):
    from kdrun.checking import problems

    assert any(reason in line for line in problems(toy_settings("combine", *words)))


def test_methods_of_many_teachers_can_be_summed():
    run = toy_run("combine", "offline", "method/first=mt_avg", "method/second=mt_you", "teachers=[cnn,mlp]")
    assert len(run.cast.teachers) == 2
    distill(run)
