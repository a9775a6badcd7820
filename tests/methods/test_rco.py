"""Route-constrained optimisation: who teaches when, and by which rate."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.staged.rco import latest_within
from kdrun.training.loop import distill
from tests.toy import toy_experiment, toy_run


@pytest.mark.parametrize(("hardness", "most", "place"), [
    ([1.0, 1.2, 1.4, 2.0], 1.5, 2), ([1.0, 3.0, 4.0], 1.5, 1), ([1.0, 3.0, 1.1], 1.5, 2), ([0.0, 0.0, 1.0], 2.0, 1),
    ([2.0, 1.0], 0.1, 1)])
def test_the_latest_anchor_that_is_not_too_hard(hardness, most, place):
    assert latest_within(hardness, most) == place


def followed(run, monkeypatch):
    """Who taught in which epoch, and the learning rate of its first step."""
    seen = []
    step = type(run.method).step

    def watched(self, networks, batch):
        yield from step(self, networks, batch)
        if batch.step == 0:
            seen.append((networks.teacher, batch.epoch, run.optimizers["student: distill"]["student"].param_groups[0]["lr"]))

    monkeypatch.setattr(type(run.method), "step", watched)
    distill(run)
    return seen


def test_each_anchor_teaches_its_part_and_the_rate_starts_anew(monkeypatch):
    run = toy_run("rco", "offline", "method.anchors=2", "recipe.epochs=5", "recipe.schedule=cosine")
    seen = followed(run, monkeypatch)
    assert [epoch for _, epoch, _ in seen] == [0, 1, 2, 3, 4]
    assert len({id(teacher) for teacher, *_ in seen}) == 2
    assert [teacher is seen[0][0] for teacher, *_ in seen] == [True, True, False, False, False]
    rates = [rate / run.recipe.lr for *_, rate in seen]
    assert rates == pytest.approx([1, 0.5, 1, 0.75, 0.25])
    assert run.networks.teacher is seen[-1][0]


def test_no_more_anchors_than_epochs():
    run = toy_run("rco", "offline", "method.anchors=9", "recipe.epochs=2")
    distill(run)
    assert run.trained == {"student: distill": 2}


def test_one_anchor_is_the_base_method_to_the_last_byte():
    ends = []
    for key, *more in (("kd",), ("rco", "method.anchors=1")):
        run = toy_run(key, "offline", *more)
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(("most", "stages"), [(1e-9, 4), (1e9, 2)])
def test_greedy_takes_every_epoch_whichever_anchors_it_visits(monkeypatch, most, stages):
    run = toy_run("rco", "offline", "method.anchors=4", "recipe.epochs=8", "method.strategy=greedy",
                  f"method.max_hardness={most}")
    seen = followed(run, monkeypatch)
    assert len({id(teacher) for teacher, *_ in seen}) == stages
    assert [epoch for _, epoch, _ in seen] == list(range(8))


def test_greedy_needs_a_validation_split(tmp_path):
    with pytest.raises(ConfigError, match="greedy"):
        toy_experiment("rco", tmp_path, "method.strategy=greedy", "dataset.validation=0")
