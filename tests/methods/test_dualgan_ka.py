"""Amalgamation without data: the generator's terms beside DAFL's, and the student's stages, one after the other."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.data_free.dafl import activation, balance, one_hot
from kdrun.training.loop import distill
from tests.toy import state, toy_run


def test_with_one_teacher_the_generator_learns_as_dafls():
    run = toy_run("dualgan_ka", "offline", "method.inner_weight=0")
    run.networks.teachers = [run.networks.student]  # who knows all classes
    run.method.setup(run.networks, run.data)
    noise = torch.randn(8, run.method.noise, generator=torch.Generator().manual_seed(0))
    ((_, terms),) = run.method.step(run.networks, Batch(noise))
    answer = run.networks.teachers[0](run.method.generator(noise))
    wanted = {"one_hot": one_hot(answer.logits), "activation": 0.1 * activation(answer.embedding),
              "balance": 5 * balance(answer.logits, "log10")}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {name: term.item() for name, term in wanted.items()}, abs=1e-5)


def test_stages_learn_one_after_the_other():
    run = toy_run("dualgan_ka", "offline")
    inner, moved = run.method.phases, []

    def watched(run):
        for phase in inner(run):
            student, own = run.networks.student.network, run.method
            parts = {"generator": own.generator, "inner": own.inner, "1": student.stages[0], "filter 1": own.filters[0],
                     "2": student.stages[1], "filter 2": own.filters[1], "3": student.stages[2], "head": student.head}
            before = {name: state(part) for name, part in parts.items()}
            yield phase
            moved.append({name for name, part in parts.items()
                          if any(not torch.equal(value, before[name][key]) for key, value in part.state_dict().items())})

    run.method.phases = watched
    distill(run)
    assert moved == [{"generator", "inner"}, {"1", "filter 1"}, {"2", "filter 2"}, {"1", "2", "3", "head"}]


def test_stages_that_do_not_pair_up_are_refused():
    with pytest.raises(ConfigError, match="the student has 2 stages and the teachers 3, 3; take networks of as many stages"):
        toy_run("dualgan_ka", "offline", "student.widths=[4,6]")
