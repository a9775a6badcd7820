"""Who teaches when: labels that a teacher learns along, and a student's past that has to know something first."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdrun.config import registry
from kdrun.methods.base import Method, Phase
from kdrun.training.loop import distill
from tests.toy import state, toy_run


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Looking(Method):
    """Notes for every first step of an epoch whether the teacher is what the student is now."""

    source = "a test"

    def __init__(self, own_loss):
        super().__init__()
        self.own_loss, self.copies = own_loss, []

    def phases(self, run):
        yield Phase(loss=self.loss if self.own_loss else None)

    def loss(self, networks, batch):
        if batch.step == 0:
            self.copies.append((batch.epoch, equal(state(networks.teacher.network), state(networks.student.network))))
        return {"ce": self.label_loss(networks.student(batch), batch)}


@pytest.mark.parametrize("own_loss", [False, True])
@pytest.mark.parametrize(("every", "copies"), [(1, [True, True, True, True]), (2, [True, False, True, False]),
                                               ("null", [True, False, False, False])])
def test_self_renews_its_copy_before_the_first_step_of_an_epoch(own_loss, every, copies):
    run = toy_run("kd", "self", "scheme.start_share=0", f"scheme.refresh_epochs={every}", "recipe.epochs=4")
    run.method = Looking(own_loss)
    distill(run)
    assert run.method.copies == list(enumerate(copies))


def test_self_starts_by_the_labels_alone_and_grows_into_the_method():
    alone, run = (toy_run(key, "self", "recipe.epochs=8", "scheme.start_share=0.5", "scheme.ramp_share=0.5")
                  for key in ("vanilla", "kd"))
    distill(alone)
    taught = {}

    class Looking(type(run.method)):
        def loss(self, networks, batch):
            taught.setdefault(batch.epoch, state(networks.teacher.network))
            return {**super().loss(networks, batch), "one": networks.student(batch).logits.sum() * 0 + 1}

    run.method.__class__ = Looking
    distill(run)
    assert run.trained == {"distill": 8}  # not one epoch more than any other method has
    terms = {epoch: {row[4]: row[5] for row in run.history if row[2:4] == (epoch, "train")} for epoch in range(8)}
    labels = {epoch: {row[4]: row[5] for row in alone.history if row[2:4] == (epoch, "train")} for epoch in range(8)}
    assert [terms[epoch] for epoch in range(4)] == [labels[epoch] for epoch in range(4)]  # the same schedule, too
    assert list(taught) == [4, 5, 6, 7]
    assert all(equal(taught[4], taught[epoch]) for epoch in taught)  # one copy to the end
    assert [terms[epoch]["one"] for epoch in taught] == pytest.approx(
        [math.exp(-5), math.exp(-5 / 4), 1, 1])  # the flank of a bell over the first half of what is the method's
    assert terms[4].keys() == {"start ce", "ce", "kd", "one"}
    assert terms[6].keys() == {"ce", "kd", "one"}


@pytest.mark.parametrize("key", [key for key in registry.options("method") if "self" in registry.method_card(key).schemes
                                 and registry.method_card(key).teachers == "none"] + ["vanilla", "ban", "diff_quant"])
def test_who_does_not_learn_from_the_students_past_has_no_start(key):
    run = toy_run(key, "self", "scheme.start_share=0.5")
    assert list(run.scheme.phases(run)) == []
    run.scheme.start_share = 0.0
    distill(run)
    assert not any(row[4].startswith("start") for row in run.history)


@pytest.mark.parametrize("key", ["kd", "fitnets", "crd"])
def test_self_killed_and_resumed_ends_in_the_same_bytes(key, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    words, steps = ("recipe.epochs=4", "scheme.start_share=0.5", "scheme.ramp_share=1", "scheme.refresh_epochs=1"), []
    whole = toy_run(key, "self", *words)
    monkeypatch.setattr("kdrun.utils.progress.Silent.step", lambda _: steps.append(1))
    distill(whole)
    for share in (0.3, 0.5, 0.9):
        last, count = 1 + round(share * (len(steps) - 1)), []

        def die(_, last=last, count=count):
            count.append(1)
            if len(count) == last:
                raise Killed

        stopped, resumed = (toy_run(key, "self", *words, folder=tmp_path / str(share)) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr("kdrun.utils.progress.Silent.step", die)
            with pytest.raises(Killed):
                distill(stopped)
        with monkeypatch.context() as patch:
            patch.setattr("kdrun.utils.progress.Silent.step", lambda _: None)
            distill(resumed)
        assert equal(whole.networks.student.state_dict(), resumed.networks.student.state_dict())
        assert resumed.history == whole.history


def test_the_teacher_that_learns_along_meets_labels_as_the_recipe_says():
    run = toy_run("kd", "online", "recipe.label_smoothing=0.3")
    batch = next(run.stream.epoch(0, 1))
    (name, terms), *_ = run.scheme.updates([], run.networks, batch, Phase())
    assert name == run.networks.teacher.name
    wanted = F.cross_entropy(run.networks.teacher(batch).logits, batch.y, label_smoothing=0.3)
    assert terms["ce"].item() == pytest.approx(wanted.item())


def test_a_method_that_was_measured_to_lose_under_a_scheme_says_so_in_its_card_and_in_a_run():
    caution = registry.method_card("fitnets").cautions["self"]
    assert caution.startswith("under scheme=self")
    for key, words, scheme, lines in (("fitnets", (), "self", [f"method: {caution}"]), ("fitnets", (), "offline", []),
                                      ("combine", ("method/second=fitnets",), "self", [f"method.second: {caution}"])):
        run = toy_run(key, scheme, *words)
        assert run.method.all_notes() == lines
